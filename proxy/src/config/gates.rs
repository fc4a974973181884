//! The feature gates that kube-proxy 1.36 reads, and what may be said of them here.
//!
//! None changes what heddle-proxy does: what is general in kube-proxy is always on here. So a gate may be named with the value
//! that holds, and refused is a value that would be a promise not kept. Gates that are not in the list belong to other
//! programs or versions of Kubernetes: tools write one set of gates into every component's file.

/// A gate, and the value that holds here; `None` where either makes no difference.
const GATES: [(&str, Option<bool>); 12] = [
    ("AllAlpha", None),
    ("AllBeta", None),
    // Off would have to close the Services' external IPs.
    ("AllowServiceExternalIPs", Some(true)),
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

/// The value that a gate has here whatever is said, where it has one.
pub(super) fn locked(gate: &str) -> Option<bool> {
    GATES.iter().find(|(name, _)| *name == gate).and_then(|(_, held)| *held)
}

/// Whether a gate is one that kube-proxy reads.
pub(super) fn is_known(gate: &str) -> bool {
    GATES.iter().any(|(name, _)| *name == gate)
}
