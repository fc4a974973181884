//! One container of a pod, as kubelet asks for it. Numbers of fields are those of `runtime.v1`.

use super::image;
use super::message::Message;

/// What kubelet has a runtime hide from a container that is not privileged, and make read-only.
const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What is asked of a container.
#[derive(Clone, Debug, Default)]
pub struct Container {
    /// Its name in the pod.
    pub name: String,
    /// Its image, with the tag.
    pub image: String,
    /// What is started, in place of the image's own entry point when it is not empty.
    pub command: Vec<String>,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its environment.
    pub environment: Vec<(String, String)>,
    /// What it sees of the node.
    pub mounts: Vec<Mount>,
    /// What it may do.
    pub rights: Rights,
}

/// A file or folder of the node in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// Where the node has it.
    pub host: String,
    /// Where the container has it.
    pub inside: String,
    /// Whether it cannot be written.
    pub read_only: bool,
    /// Whether what the node mounts below it appears in the container.
    pub follows_host: bool,
}

/// What a container may do; by default what a runtime gives who asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Capabilities beyond the runtime's own, without `CAP_`.
    pub add: Vec<String>,
    /// Those that are taken away, or `ALL`.
    pub drop: Vec<String>,
    /// Whether its root is read-only.
    pub read_only_root: bool,
    /// Whether no program that it starts can have more.
    pub no_new_privileges: bool,
    /// Whether all system calls are open to it; else the runtime's filter stands before them.
    pub unconfined: bool,
}

impl Container {
    /// One that does nothing until it is killed.
    pub(super) fn pause() -> Self {
        Self { name: "main".to_owned(), image: format!("{}:1", image::NAME), ..Self::default() }
    }

    /// Where its output goes, in the pod's folder of logs.
    pub(super) fn log(&self) -> String {
        format!("{}.log", self.name)
    }

    /// `ContainerConfig`.
    pub(super) fn message(&self, on_the_node: bool) -> Message {
        let mut config = Message::default()
            .message(1, &Message::default().bytes(1, &self.name))
            .message(2, &Message::default().bytes(1, &self.image));
        config = self.command.iter().fold(config, |config, word| config.bytes(3, word));
        config = self.arguments.iter().fold(config, |config, word| config.bytes(4, word));
        for (name, value) in &self.environment {
            config = config.message(6, &Message::default().bytes(1, name).bytes(2, value));
        }
        config = self.mounts.iter().fold(config, |config, mount| config.message(7, &mount.message()));
        let security = self.rights.message().message(3, &namespaces(on_the_node));
        config.bytes(11, self.log()).message(15, &Message::default().message(2, &security))
    }
}

impl Mount {
    fn message(&self) -> Message {
        Message::default()
            .bytes(1, &self.inside)
            .bytes(2, &self.host)
            .number(3, self.read_only.into())
            .number(5, self.follows_host.into())
    }
}

impl Rights {
    /// `LinuxContainerSecurityContext`.
    fn message(&self) -> Message {
        let mut capabilities = Message::default();
        capabilities = self.add.iter().fold(capabilities, |all, name| all.bytes(1, name));
        capabilities = self.drop.iter().fold(capabilities, |all, name| all.bytes(2, name));
        let mut security = Message::default()
            .message(1, &capabilities)
            .number(7, self.read_only_root.into())
            .number(11, self.no_new_privileges.into())
            .message(15, &Message::default().number(1, self.unconfined.into()));
        security = MASKED.iter().fold(security, |security, path| security.bytes(13, path));
        READ_ONLY.iter().fold(security, |security, path| security.bytes(14, path))
    }
}

/// `NamespaceOption`: the network of the node or of the pod, processes of its own.
pub(super) fn namespaces(on_the_node: bool) -> Message {
    const NODE: u64 = 2;
    const CONTAINER: u64 = 1;
    Message::default().number(1, if on_the_node { NODE } else { 0 }).number(2, CONTAINER)
}
