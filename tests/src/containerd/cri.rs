//! Kubelet's requests: pods made, looked at and removed. Numbers of fields are those of `runtime.v1`.

use super::Failure;
use super::HOME;
use super::container::{Container, namespaces};
use super::grpc::Client;
use super::message::{Fields, Message};
use serde_json::Value;
use std::net::IpAddr;

/// A connection to the runtime.
#[derive(Debug)]
pub struct Cri {
    client: Client,
}

/// What is asked of a pod.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its name, and its unique one.
    pub name: String,
    /// Ports of the node that lead to it: of the node, of the pod; TCP.
    pub ports: Vec<(u16, u16)>,
    /// Its annotations.
    pub annotations: Vec<(String, String)>,
    /// Whether it has the node's network in place of its own.
    pub on_the_node: bool,
}

/// What the runtime says of a pod.
#[derive(Clone, Debug)]
pub struct Status {
    /// Whether it runs.
    pub ready: bool,
    /// Its addresses, the primary one first.
    pub addresses: Vec<IpAddr>,
    /// The path of its network namespace, as the runtime sees it.
    pub namespace: String,
}

impl Pod {
    /// A pod that asks for nothing.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ports: Vec::new(), annotations: Vec::new(), on_the_node: false }
    }

    /// A pod that has the node's network.
    pub fn on_the_node(name: &str) -> Self {
        Self { on_the_node: true, ..Self::new(name) }
    }

    /// Where the output of its containers goes, as the runtime sees it.
    fn logs(&self) -> String {
        format!("{HOME}/logs/{}", self.name)
    }

    fn message(&self) -> Message {
        let metadata = Message::default().bytes(1, &self.name).bytes(2, &self.name).bytes(3, "default");
        let mut config = Message::default().message(1, &metadata).bytes(3, self.logs());
        for (host, pod) in &self.ports {
            config =
                config.message(5, &Message::default().number(2, (*pod).into()).number(3, (*host).into()));
        }
        for (key, value) in &self.annotations {
            config = config.message(7, &Message::default().bytes(1, key).bytes(2, value));
        }
        let security = Message::default().message(1, &namespaces(self.on_the_node));
        config.message(8, &Message::default().message(2, &security))
    }
}

impl Cri {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// The conditions that are not met, such as `NetworkReady`, with their messages.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub fn lacking(&mut self) -> Result<Vec<String>, Failure> {
        let status = self.call("Status", &Message::default())?.message(1);
        let unmet = status.messages(1).filter(|condition| condition.number(2) == 0);
        Ok(unmet.map(|condition| format!("{}: {}", condition.text(1), condition.text(4))).collect())
    }

    /// Makes a pod's sandbox, network included, and gives its id.
    ///
    /// # Errors
    /// As the runtime says.
    pub fn run(&mut self, pod: &Pod) -> Result<String, Failure> {
        let request = Message::default().message(1, &pod.message());
        Ok(self.call("RunPodSandbox", &request)?.text(1))
    }

    /// Makes and starts a container that does nothing in the pod's sandbox, and gives its id.
    ///
    /// # Errors
    /// As the runtime says.
    pub fn start_container(&mut self, id: &str, pod: &Pod) -> Result<String, Failure> {
        self.start(id, pod, &Container::pause())
    }

    /// Makes and starts a container in the pod's sandbox, and gives its id.
    ///
    /// # Errors
    /// As the runtime says.
    pub fn start(&mut self, id: &str, pod: &Pod, container: &Container) -> Result<String, Failure> {
        let container = container.message(pod.on_the_node);
        let request = Message::default().bytes(1, id).message(2, &container).message(3, &pod.message());
        let container = self.call("CreateContainer", &request)?.text(1);
        self.call("StartContainer", &Message::default().bytes(1, &container))?;
        Ok(container)
    }

    /// The code with which a container has ended; none while it has not.
    ///
    /// # Errors
    /// As the runtime says.
    pub fn exit_code(&mut self, container: &str) -> Result<Option<u64>, Failure> {
        const EXITED: u64 = 2;
        let request = Message::default().bytes(1, container);
        let status = self.call("ContainerStatus", &request)?.message(1);
        Ok((status.number(3) == EXITED).then(|| status.number(7)))
    }

    /// Stops all of a pod's containers and takes its network away. May be repeated.
    ///
    /// # Errors
    /// As the runtime says.
    pub fn stop(&mut self, id: &str) -> Result<(), Failure> {
        self.call("StopPodSandbox", &Message::default().bytes(1, id)).map(drop)
    }

    /// Forgets a pod that was stopped.
    ///
    /// # Errors
    /// As the runtime says.
    pub fn remove(&mut self, id: &str) -> Result<(), Failure> {
        self.call("RemovePodSandbox", &Message::default().bytes(1, id)).map(drop)
    }

    /// The ids of all pods.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub fn pods(&mut self) -> Result<Vec<String>, Failure> {
        Ok(self.call("ListPodSandbox", &Message::default())?.messages(1).map(|pod| pod.text(1)).collect())
    }

    /// What the runtime says of a pod.
    ///
    /// # Errors
    /// As the runtime says, also when it says something that makes no sense.
    pub fn status(&mut self, id: &str) -> Result<Status, Failure> {
        let answer = self.call("PodSandboxStatus", &Message::default().bytes(1, id).number(2, 1))?;
        let status = answer.message(1);
        let network = status.message(5);
        let texts = [network.text(1)].into_iter().chain(network.messages(2).map(|more| more.text(1)));
        let addresses =
            texts.filter(|text| !text.is_empty()).map(|text| text.parse()).collect::<Result<_, _>>()?;
        Ok(Status { ready: status.number(3) == 0, addresses, namespace: namespace(&answer)? })
    }

    fn call(&mut self, method: &str, request: &Message) -> Result<Fields, Failure> {
        self.client.call(&format!("/runtime.v1.RuntimeService/{method}"), request)
    }
}

/// The path of the network namespace, from the container's specification that a verbose status holds.
fn namespace(answer: &Fields) -> Result<String, Failure> {
    let info: Value = serde_json::from_str(&answer.message(2).text(2))?;
    let namespaces = info["runtimeSpec"]["linux"]["namespaces"].as_array().cloned().unwrap_or_default();
    let network = namespaces.iter().find(|namespace| namespace["type"] == "network");
    let path = network.and_then(|network| network["path"].as_str()).unwrap_or_default();
    // /var/run is a link to /run, which leads out of a path below another process's root.
    Ok(path.strip_prefix("/var").unwrap_or(path).to_owned())
}
