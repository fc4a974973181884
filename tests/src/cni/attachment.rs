//! What is attached, as a runtime says it.

use serde_json::{Map, Value, json};

/// One interface of one container, and what the runtime knows of its pod.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The container's id.
    pub container: String,
    /// The path of its network namespace; empty when that is gone.
    pub namespace: String,
    /// The interface's name in it.
    pub ifname: String,
    /// `CNI_ARGS`, in this order.
    pub args: Vec<(String, String)>,
    /// Values by capability; a plugin gets those that it declares.
    pub capabilities: Map<String, Value>,
}

impl Attachment {
    /// `eth0` of a container of which nothing else is known.
    pub fn new(container: &str, namespace: &str) -> Self {
        Self {
            container: container.to_owned(),
            namespace: namespace.to_owned(),
            ifname: "eth0".to_owned(),
            args: Vec::new(),
            capabilities: Map::new(),
        }
    }

    /// As containerd attaches a pod: the arguments come out of an unordered map, so that each `turn` has them in another
    /// order, and every pod has a cgroup and annotations.
    #[must_use]
    pub fn of_containerd(mut self, turn: usize) -> Self {
        let id = self.container.clone();
        let pairs = [
            ("IgnoreUnknown", "1"),
            ("K8S_POD_NAMESPACE", "default"),
            ("K8S_POD_NAME", &id),
            ("K8S_POD_INFRA_CONTAINER_ID", &id),
            ("K8S_POD_UID", "00000000-0000-4000-8000-000000000001"),
        ];
        self.args = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
        if turn % 2 == 1 {
            self.args.reverse();
        }
        let by = turn / 2 % self.args.len();
        self.args.rotate_left(by);
        self.with("cgroupPath", json!(format!("/kubepods/{id}")))
            .with("io.kubernetes.cri.pod-annotations", json!({"example.org/any": "thing"}))
    }

    /// With a value for a capability.
    #[must_use]
    pub fn with(mut self, capability: &str, value: Value) -> Self {
        self.capabilities.insert(capability.to_owned(), value);
        self
    }

    /// With one host port, its keys spelt as containerd does: Go's names of fields, since its types have no tags.
    #[must_use]
    pub fn with_port(self, host: u16, container: u16) -> Self {
        let port = json!({"HostPort": host, "ContainerPort": container, "Protocol": "tcp", "HostIP": ""});
        self.with("portMappings", json!([port]))
    }

    /// `CNI_ARGS` as one text.
    pub(super) fn arguments(&self) -> String {
        self.args.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(";")
    }
}
