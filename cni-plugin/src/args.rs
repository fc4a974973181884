//! What `CNI_ARGS` says: what the runtime tells every plugin beside the configuration.

use crate::spec::{Error, is_true};

/// What `CNI_ARGS` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// The pod as `namespace/name`.
    pub pod: Option<String>,
    /// The address that the pod wants.
    pub ip: Option<String>,
    /// The Ethernet address that the pod wants.
    pub mac: Option<String>,
}

impl Args {
    /// Reads `K=V;K=V`, in any order. A key that we do not know is refused unless `IgnoreUnknown` is set, as in the
    /// reference library.
    ///
    /// # Errors
    /// When a part is not one key and one value, or unknown.
    pub fn read(text: &str) -> Result<Self, Error> {
        let bad = |problem| Error::Variable { name: "CNI_ARGS", value: text.to_owned(), problem };
        let (mut args, mut namespace, mut name) = (Self::default(), None, None);
        let (mut unknown, mut ignore) = (false, false);
        for part in text.split(';').filter(|_| !text.is_empty()) {
            let mut halves = part.split('=');
            let (Some(key), Some(value), None) = (halves.next(), halves.next(), halves.next()) else {
                return Err(bad("each part must be one key, '=' and one value"));
            };
            let value = Some(value.to_owned()).filter(|v| !v.is_empty());
            match key {
                "IP" => args.ip = value,
                "MAC" => args.mac = value,
                "K8S_POD_NAMESPACE" => namespace = value,
                "K8S_POD_NAME" => name = value,
                "K8S_POD_INFRA_CONTAINER_ID" | "K8S_POD_UID" => {}
                "IgnoreUnknown" => ignore = value.as_deref().is_some_and(is_true),
                _ => unknown = true,
            }
        }
        if unknown && !ignore {
            return Err(bad("it has a key that this plugin does not know, and not IgnoreUnknown=1"));
        }
        args.pod = namespace.zip(name).map(|(namespace, name)| format!("{namespace}/{name}"));
        Ok(args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// cni:E8: the order does not matter, and containerd's is random.
    #[test]
    fn arguments_are_read_in_any_order() {
        let known = Args { pod: Some("ns/pod".to_owned()), ..Args::default() };
        assert_eq!(Args::read("K8S_POD_NAME=pod;IgnoreUnknown=1;X=y;K8S_POD_NAMESPACE=ns").unwrap(), known);
        assert_eq!(
            Args::read("X=y;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=pod;IgnoreUnknown=true").unwrap(),
            known
        );
        assert_eq!(Args::read("").unwrap(), Args::default());
        for bad in ["X=y", "IP", "IP=a=b", "IP=;", "IgnoreUnknown=0;X=y"] {
            assert!(Args::read(bad).is_err(), "{bad}");
        }
    }
}
