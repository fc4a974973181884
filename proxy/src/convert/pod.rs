//! Pods that do not want their sockets served.
//!
//! No other pod is of interest: where pods are is what slices say.

use super::objects::{self, PodSpec};
use super::{Fault, FieldError, Names, Object, PassedOver, Verdict, ip};

/// The label with which a pod says so.
pub(crate) const LABEL: &str = "heddle.dev/sockets";
/// Its value then.
pub(crate) const OFF: &str = "off";

/// Converts a Pod. Which node it runs on is not looked at.
///
/// # Errors
/// The first address that cannot be used.
pub fn pod(object: &objects::Pod, _: &mut Names) -> Result<Verdict, FieldError> {
    if object.metadata.labels.sockets.as_deref() != Some(OFF) {
        return Ok(Verdict::Ignored("its sockets are served (no label heddle.dev/sockets: \"off\")"));
    }
    if matches!(object.status.phase.as_str(), "Succeeded" | "Failed") {
        return Ok(Verdict::Ignored("it has ended, and others may have its addresses"));
    }
    let PodSpec { host_network, .. } = object.spec;
    if host_network {
        // Its sockets are the node's, of which a program cannot tell them.
        let fault = Fault::value(OFF, "possible with spec.hostNetwork, where sockets are the node's");
        return Ok(Verdict::Stray(fault.at(format!("metadata.labels[{LABEL}]"))));
    }
    let read = object.status.pod_ips.iter().enumerate();
    let read =
        read.map(|(index, at)| ip(&at.ip).map_err(|fault| fault.at(format!("status.podIPs[{index}].ip"))));
    Ok(PassedOver::default().verdict(Object::Pod(read.collect::<Result<_, _>>()?)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::convert::tests::{ips, names};

    fn converted(labels: &Value, spec: &Value, phase: &str) -> Verdict {
        let addresses = json!([{"ip": "10.244.1.7"}, {"ip": "fd00::7"}]);
        let object = json!({"metadata": {"labels": labels}, "spec": spec, "status": {"phase": phase, "podIPs": addresses}});
        pod(&serde_json::from_value(object).unwrap(), &mut names()).unwrap()
    }

    #[test]
    fn a_pod_is_left_out_by_its_label_alone() {
        let left_out = converted(&json!({LABEL: "off"}), &json!({}), "Running");
        assert_eq!(left_out, Verdict::Ours(Object::Pod(ips(&["10.244.1.7", "fd00::7"])), vec![]));
        for labels in [json!({}), json!({LABEL: "on"}), json!({LABEL: ""})] {
            assert!(matches!(converted(&labels, &json!({}), "Running"), Verdict::Ignored(_)));
        }
    }

    #[test]
    fn a_pod_that_has_ended_has_no_addresses_any_more() {
        for phase in ["Succeeded", "Failed"] {
            assert!(matches!(converted(&json!({LABEL: "off"}), &json!({}), phase), Verdict::Ignored(_)));
        }
    }

    #[test]
    fn a_pod_on_the_nodes_network_is_told_why_it_is_not_left_out() {
        let verdict = converted(&json!({LABEL: "off"}), &json!({"hostNetwork": true}), "Running");
        let Verdict::Stray(error) = verdict else { panic!("{verdict:?}") };
        let expected = "metadata.labels[heddle.dev/sockets]: \"off\" is not possible with spec.hostNetwork, where sockets are \
                        the node's";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn an_address_that_cannot_be_read_is_named() {
        let object = json!({"metadata": {"labels": {LABEL: "off"}}, "status": {"podIPs": [{"ip": "x"}]}});
        let error = pod(&serde_json::from_value(object).unwrap(), &mut names()).unwrap_err();
        assert_eq!(error.to_string(), "status.podIPs[0].ip: \"x\" is not an IP address");
    }
}
