//! From changes to a (fake) kernel's tables: properties of the pure middle, and the agent's loop.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

#[path = "pipeline/node.rs"]
mod node;
#[path = "pipeline/order.rs"]
mod order;
#[path = "pipeline/properties.rs"]
mod properties;
#[path = "pipeline/told.rs"]
mod told;
#[path = "pipeline/writes.rs"]
mod writes;

use heddle_netlink::nft::Table;
use heddle_proxy::agent::{Agent, Event};
use heddle_proxy::model::{
    Change, Kind, Model, ObjectName, Protocol, Service, ServicePort, Slice, SliceEndpoint, SlicePort,
    Triggered,
};
use heddle_proxy::nft::{FakeKernel, Nft, Settings};
use std::net::IpAddr;

const NODE: &str = "node-1";

fn name(name: &str) -> ObjectName {
    ObjectName::new("default", name)
}

fn service(last: u8, ports: &[(&str, Protocol, u16)]) -> Service {
    let port = |&(name, protocol, port): &(&str, Protocol, u16)| ServicePort {
        name: name.into(),
        protocol,
        port,
        node_port: None,
    };
    let ips: [IpAddr; 2] = [[10, 96, 0, last].into(), [0xfd00, 0x96, 0, 0, 0, 0, 0, u16::from(last)].into()];
    Service { cluster_ips: ips.into(), ports: ports.iter().map(port).collect(), ..Service::default() }
}

fn slice(service: &str, endpoints: &[(u8, bool)]) -> Slice {
    let port = SlicePort { name: "http".into(), protocol: Protocol::Tcp, port: 8080 };
    let endpoint = |&(last, ready): &(u8, bool)| SliceEndpoint {
        address: [10, 0, 0, last].into(),
        ready,
        serving: ready,
        terminating: false,
        hints: None,
        node: Some(if last % 2 == 0 { NODE } else { "node-2" }.into()),
    };
    let endpoints = endpoints.iter().map(endpoint).collect();
    Slice { service: service.into(), ports: vec![port], endpoints, trigger: Triggered::default() }
}

fn http(last: u8) -> Service {
    service(last, &[("http", Protocol::Tcp, 80)])
}

fn complete() -> [Change; 2] {
    [Change::Complete(Kind::Service), Change::Complete(Kind::Slice)]
}

fn agent() -> Agent<Nft<FakeKernel>> {
    Agent::new(NODE, Nft::new(FakeKernel::default(), &Settings::default()))
}

fn tell(agent: &mut Agent<Nft<FakeKernel>>, changes: impl IntoIterator<Item = Change>) {
    changes.into_iter().for_each(|change| agent.take(Event::Change(change)));
}

fn kernel_tables(agent: &mut Agent<Nft<FakeKernel>>) -> Vec<Table> {
    agent.dataplane().kernel().tables.values().cloned().collect()
}

fn wanted_tables(agent: &mut Agent<Nft<FakeKernel>>) -> Vec<Table> {
    agent.dataplane().tables().cloned().collect()
}

fn agent_with_web(endpoints: &[(u8, bool)]) -> Agent<Nft<FakeKernel>> {
    let mut agent = agent();
    tell(
        &mut agent,
        [
            Change::ServiceApplied(name("web"), http(1).into()),
            Change::SliceApplied(name("web-1"), slice("web", endpoints).into()),
        ],
    );
    tell(&mut agent, complete());
    assert_eq!(agent.sync(), None);
    agent.dataplane().kernel().taken.clear();
    agent
}

fn model_of(changes: &[Change]) -> Model {
    let mut model = Model::default();
    changes.iter().cloned().for_each(|change| model.apply(change));
    model
}
