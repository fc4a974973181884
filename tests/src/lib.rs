//! The lab: the hosts of a test as network namespaces, and what runs and speaks inside them.
//!
//! | module | what it is |
//! |---|---|
//! | [`namespace`] | one network namespace, held by a file descriptor and gone with it |
//! | [`wire`] | links, addresses and routes inside a namespace |
//! | [`cgroup`](mod@cgroup) | a cgroup of a node's own |
//! | [`lab`] | a fabric with nodes and an outside host; pods are made by running the real `heddle-cni` |
//! | [`cni`] | what a container runtime does with a CNI plugin and its configuration list |
//! | [`containerd`] | a real container runtime on a node, and kubelet's requests to it |
//! | [`apiserver`] | the Kubernetes API for programs and kubectl, with switches to break it |
//! | [`cluster`] | nodes with heddle-node and heddle-proxy on each, fed by one API server |
//! | [`plane`] | a node and API servers that a test can break |
//! | [`process`] | programs under test, started inside a namespace, dead with the test |
//! | [`kubelet`] | a DaemonSet's pod on a node, as kubelet and a runtime make it |
//! | [`image`] | the container image, from the programs that are built |
//! | [`manifests`] | what `kubectl apply -k conf/…` makes |
//! | [`proxy`] | the real `heddle-proxy` on a node, fed from a folder of manifests |
//! | [`traffic`] | servers and clients: which endpoint answered, and which source address it saw |
//! | [`objects`] | small Services and slices as JSON |
//! | [`patience`] | waiting for something with a deadline |
//! | [`demo`] | the story that `heddle-lab demo` tells |
//! | [`scenario`] | text files with one Kubernetes situation each, and the traffic that must follow |
//! | [`oracle`] | what may become of a packet, written from kube-proxy's checklist |
//! | [`remains`] | what is left of a process that has had a lab |
//! | [`scratch`] | a directory that is gone with the test |
//!
//! Nothing here touches the namespace in which the test was started, and nothing outlives the test's process, even
//! when that is killed: namespaces and directories are file descriptors, processes die with their parent.

pub mod apiserver;
pub mod cgroup;
pub mod cluster;
pub mod cni;
pub mod containerd;
pub mod demo;
pub mod image;
pub mod kubelet;
pub mod lab;
pub mod manifests;
pub mod namespace;
pub mod objects;
pub mod oracle;
pub mod patience;
pub mod plane;
pub mod process;
pub mod proxy;
pub mod remains;
pub mod scenario;
pub mod scratch;
pub mod traffic;
pub mod wire;
