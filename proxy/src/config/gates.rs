//! The feature gates that kube-proxy 1.36 reads, and what may be said of them here.
//!
//! One changes what heddle-proxy does: without `AllowServiceExternalIPs`, external IPs are not served. What is general in
//! kube-proxy is always on here: such a gate may be named with the value that holds, and refused is a value that would be
//! a promise not kept. Gates that are not in the list belong to other
//! programs or versions of Kubernetes: tools write one set of gates into every component's file.

use std::collections::BTreeMap;

/// Whether Services' external IPs are served.
pub(super) const EXTERNAL_IPS: &str = "AllowServiceExternalIPs";

/// A gate, and the value that holds here; `None` where either makes no difference.
const GATES: [(&str, Option<bool>); 12] = [
    ("AllAlpha", None),
    ("AllBeta", None),
    (EXTERNAL_IPS, None),
    ("ComponentFlagz", None),
    ("ComponentStatusz", None),
    ("ContextualLogging", None),
    ("LoggingAlphaOptions", None),
    ("LoggingBetaOptions", None),
    ("MultiCIDRServiceAllocator", Some(true)),
    ("NFTablesProxyMode", Some(true)),
    ("NativeHistograms", None),
    ("PreferSameTrafficDistribution", Some(true)),
];

/// Whether a gate that is on by default is on.
pub(super) fn is_on(gate: &str, given: &BTreeMap<String, bool>) -> bool {
    given.get(gate) != Some(&false)
}

/// The value that a gate has here whatever is said, where it has one.
pub(super) fn locked(gate: &str) -> Option<bool> {
    GATES.iter().find(|(name, _)| *name == gate).and_then(|(_, held)| *held)
}

/// Whether a gate is one that kube-proxy reads.
pub(super) fn is_known(gate: &str) -> bool {
    GATES.iter().any(|(name, _)| *name == gate)
}
