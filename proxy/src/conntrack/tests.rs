//! Which flows are stale, when they are looked for, and what happens when that fails.

use super::*;
use crate::agent::{Agent, Event};
use crate::frontends::{Frontends, Place, Reach};
use crate::model::{
    Change, Kind, Model, ObjectName, Policy, Service, ServicePort, Slice, SliceEndpoint, SlicePort, Triggered,
};
use crate::nft::{FakeKernel, Nft, Settings};
use heddle_netlink::conntrack::{Filter, Flow, Tuple};
use heddle_netlink::{Errno, Error, Refusal};
use std::collections::BTreeSet;
use std::sync::mpsc::channel;

const VIP: &str = "10.96.0.10:53";
const OLD: &str = "10.244.1.11:5353";
const NEW: &str = "10.244.1.12:5353";
const NODE: &str = "192.168.0.11";
const NODE_PORT: u16 = 30053;

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn udp(address: &str) -> Frontend {
    let address = socket(address);
    Frontend { place: Place::Address(address.ip()), protocol: Protocol::Udp, port: address.port() }
}

fn node_port() -> Frontend {
    Frontend { place: Place::Node(IpFamily::V4), protocol: Protocol::Udp, port: NODE_PORT }
}

fn backends(serving: &[&str]) -> Backends {
    let serving = serving.iter().map(|text| socket(text)).collect();
    Backends {
        reach: Reach::ClusterIp,
        policy: Policy::Cluster,
        cluster: Arc::default(),
        local: Arc::default(),
        serving,
        sources: Arc::default(),
        affinity: None,
    }
}

/// A flow to `to` that `by` answers.
fn flow(to: &str, by: &str) -> Flow {
    let (client, to, by) = (socket("10.244.1.10:40000"), socket(to), socket(by));
    Flow {
        protocol: Protocol::Udp.number(),
        original: Tuple { source: client, destination: to },
        reply: Tuple { source: by, destination: client },
        id: 1,
        zone: 0,
    }
}

/// Flows in memory. What it is told to refuse, it refuses once.
#[derive(Debug, Default)]
struct FakeFlows {
    flows: Vec<Flow>,
    listings: usize,
    interrupt_listings: usize,
    refuse_removals: usize,
}

impl FlowTable for FakeFlows {
    const WHAT: &'static str = "flows in memory";

    fn own_addresses(&mut self) -> Result<BTreeSet<IpAddr>, Error> {
        Ok([NODE, "192.168.0.12", "127.0.0.1", "fd00:192::b"].map(|text| text.parse().unwrap()).into())
    }

    fn list(&mut self, filter: &Filter, wanted: &dyn Fn(&Flow) -> bool) -> Result<Vec<Flow>, Error> {
        self.listings += 1;
        if self.interrupt_listings > 0 {
            self.interrupt_listings -= 1;
            return Err(Error::Interrupted { tries: 16 });
        }
        Ok(self.flows.iter().filter(|flow| filter.matches(flow) && wanted(flow)).copied().collect())
    }

    fn forget(&mut self, flows: &[Flow]) -> Result<usize, Error> {
        if self.refuse_removals > 0 {
            self.refuse_removals -= 1;
            return Err(Error::Refused {
                refusals: vec![Refusal { index: 0, errno: Errno::BUSY, text: None }],
            });
        }
        self.flows.retain(|flow| !flows.contains(flow));
        Ok(flows.len())
    }
}

/// The way from the agent's edits to the flows.
struct Stage {
    frontends: BTreeMap<Frontend, Backends>,
    outbox: Outbox,
    changes: std::sync::mpsc::Receiver<Changes>,
    forgetter: Forgetter<FakeFlows>,
}

impl Stage {
    fn with(flows: &[Flow]) -> Self {
        let (to, changes) = channel();
        let table = FakeFlows { flows: flows.to_vec(), ..FakeFlows::default() };
        let mut outbox = Outbox::new(vec![(Protocol::Udp, to)]);
        let node_addresses = vec![NODE.parse().unwrap()];
        outbox.surround(&Surroundings { node_addresses, ..Surroundings::default() });
        let forgetter = Forgetter::new(table, Protocol::Udp, &Settings::default());
        Self { frontends: BTreeMap::new(), outbox, changes, forgetter }
    }

    /// One sync that gives these frontends what serves them (`None`: they are gone), taken by the kernel in `written`.
    fn sync(&mut self, edits: &[(Frontend, Option<&[&str]>)], written: &[IpFamily]) {
        let mut delta = Delta::default();
        for (frontend, serving) in edits {
            delta.set(&mut self.frontends, *frontend, serving.map(backends));
        }
        self.outbox.stage(&delta);
        self.outbox.hand_over(written);
        while let Ok(changes) = self.changes.try_recv() {
            self.forgetter.take(changes);
        }
    }

    /// A sync that succeeds, and a look through the flows that does.
    fn serve(&mut self, edits: &[(Frontend, &[&str])]) {
        let edits: Vec<_> = edits.iter().map(|(frontend, serving)| (*frontend, Some(*serving))).collect();
        self.sync(&edits, &[IpFamily::V4, IpFamily::V6]);
        assert_eq!(self.forgetter.pass(), None);
    }

    fn left(&mut self) -> &[Flow] {
        &self.forgetter.table().flows
    }
}

/// kp:F3
#[test]
fn flows_of_an_endpoint_that_is_gone_are_stale_and_no_others() {
    let kept = [
        flow(VIP, NEW),
        flow("10.96.0.10:54", OLD),
        flow("10.96.0.11:53", OLD),
        flow("8.8.8.8:53", "8.8.8.8:53"),
        // The endpoint itself was asked, not the Service.
        flow(OLD, OLD),
    ];
    // The same pod on another port is not the endpoint.
    let stale = [flow(VIP, OLD), flow(VIP, "10.244.1.12:53")];
    let mut stage = Stage::with(&[&kept[..], &stale[..]].concat());
    stage.serve(&[(udp(VIP), &[NEW])]);
    assert_eq!(stage.left(), kept);
}

/// A DNS Service's slice on another node; each endpoint with its last number and whether it is ready, serving, terminating.
fn slice(endpoints: &[(u8, [bool; 3])]) -> Change {
    let endpoint = |&(last, [ready, serving, terminating]): &(u8, [bool; 3])| SliceEndpoint {
        address: [10, 244, 1, last].into(),
        ready,
        serving,
        terminating,
        node: Some("node-2".into()),
        hints: None,
    };
    let ports = vec![SlicePort { name: "dns".into(), protocol: Protocol::Udp, port: 5353 }];
    let endpoints = endpoints.iter().map(endpoint).collect();
    Change::SliceApplied(
        ObjectName::new("default", "dns-1"),
        Slice { service: "dns".into(), ports, endpoints, trigger: Triggered::default() }.into(),
    )
}

/// A DNS Service whose policy wants endpoints on the client's node.
fn service() -> Change {
    let port = ServicePort { name: "dns".into(), protocol: Protocol::Udp, port: 53, node_port: None };
    let service = Service {
        cluster_ips: vec![socket(VIP).ip()],
        internal_policy: Policy::Local,
        ports: vec![port],
        ..Service::default()
    };
    Change::ServiceApplied(ObjectName::new("default", "dns"), service.into())
}

/// kp:F1: the agent hands over once the kernel has the rules, and never forgets to.
#[test]
fn the_agent_tells_of_a_change_only_when_the_kernel_has_taken_it() {
    let (to, changes) = channel();
    let dataplane = Nft::new(FakeKernel::default(), &Settings::default());
    let mut agent = Agent::new("node-1", dataplane).with_outbox(Outbox::new(vec![(Protocol::Udp, to)]));
    agent.dataplane().kernel().refuse = vec![Errno::NOMEM];
    let complete = [Change::Complete(Kind::Service), Change::Complete(Kind::Slice)];
    let all = [service(), slice(&[(11, [true, true, false])])].into_iter().chain(complete);
    all.for_each(|change| agent.take(Event::Change(change)));
    assert!(agent.sync().is_some());
    assert_eq!(changes.try_recv().ok(), None);
    assert_eq!(agent.sync(), None);
    let told = changes.try_recv().unwrap();
    assert_eq!(told.frontends, [(udp(VIP), Some([socket(OLD)].into()))].into());
    // Nothing changed since.
    agent.take(Event::Doubt);
    assert_eq!(agent.sync(), None);
    assert_eq!(changes.try_recv().ok(), None);
}

/// kp:F3: ready or not, terminating or not, here or not: whoever serves keeps its flows, whatever the policy.
#[test]
fn an_endpoint_keeps_its_flows_until_it_serves_no_more() {
    let mut model = Model::default();
    model.apply(service());
    let mut frontends = Frontends::new("node-1");
    let mut stage = Stage::with(&[flow(VIP, OLD)]);
    let mut left = |stage: &mut Stage, endpoints: &[(u8, [bool; 3])]| {
        model.apply(slice(endpoints));
        let dirty = model.take_dirty();
        frontends.update(&model, &dirty, |delta| stage.outbox.stage(delta));
        stage.sync(&[], &[IpFamily::V4]);
        assert_eq!(stage.forgetter.pass(), None);
        stage.left().len()
    };
    let fresh = (12, [true, true, false]);
    assert_eq!(left(&mut stage, &[(11, [true, true, false])]), 1);
    assert_eq!(left(&mut stage, &[(11, [false, true, false]), fresh]), 1);
    assert_eq!(left(&mut stage, &[(11, [false, true, true]), fresh]), 1);
    // It is published though it is not ready.
    assert_eq!(left(&mut stage, &[(11, [true, false, false]), fresh]), 1);
    assert_eq!(left(&mut stage, &[(11, [false, false, true]), fresh]), 0);
}

/// kp:F3: nothing is deleted without an endpoint to go to; the first one that comes back gets the flows.
#[test]
fn flows_of_a_service_that_nobody_serves_stay_until_somebody_does() {
    let mut stage = Stage::with(&[]);
    stage.serve(&[(udp(VIP), &[OLD])]);
    stage.forgetter.table().flows = vec![flow(VIP, OLD)];
    stage.serve(&[(udp(VIP), &[])]);
    assert_eq!(stage.left(), [flow(VIP, OLD)]);
    stage.serve(&[(udp(VIP), &[NEW])]);
    assert_eq!(stage.left(), []);
}

/// kp:F3: the port of another host is no node port of ours, nor is one of our addresses that serves none.
#[test]
fn node_port_flows_to_other_hosts_and_other_addresses_stay() {
    let to = |address: &str| format!("{address}:{NODE_PORT}");
    let foreign = ["8.8.8.8", "192.168.0.12", "127.0.0.1"].map(|address| flow(&to(address), &to(address)));
    let mut flows = foreign.to_vec();
    flows.push(flow(&to(NODE), OLD));
    let mut stage = Stage::with(&flows);
    stage.serve(&[(node_port(), &[NEW])]);
    assert_eq!(stage.left(), foreign);
}

#[test]
fn a_flow_to_an_external_ip_on_the_node_is_not_the_node_ports() {
    let external = format!("{NODE}:{NODE_PORT}");
    let mut stage = Stage::with(&[]);
    stage.serve(&[(udp(&external), &[OLD]), (node_port(), &[OLD])]);
    stage.forgetter.table().flows = vec![flow(&external, OLD)];
    stage.serve(&[(node_port(), &[NEW])]);
    assert_eq!(stage.left(), [flow(&external, OLD)]);
}

/// kp:F1: a Service that changes is reason enough, where packets to its new address went somewhere else before.
#[test]
fn flows_to_an_address_from_before_it_was_a_frontend_are_forgotten() {
    let node = format!("{NODE}:{NODE_PORT}");
    let mut stage = Stage::with(&[flow("203.0.113.1:53", "203.0.113.1:53"), flow(&node, &node)]);
    stage.serve(&[(udp(VIP), &[OLD])]);
    assert_eq!(stage.left().len(), 2);
    stage.serve(&[(udp("203.0.113.1:53"), &[OLD]), (node_port(), &[OLD])]);
    assert_eq!(stage.left(), []);
}

/// kp:F1: what a failed sync changed is not lost, and is not looked for before the kernel has taken it; the other family
/// does not wait.
#[test]
fn changes_of_a_failed_sync_are_kept_for_the_next_that_succeeds() {
    const VIP6: &str = "[fd00:96::10]:53";
    let flow6 = flow(VIP6, "[fd00:244::11]:53");
    let mut stage = Stage::with(&[]);
    stage.serve(&[(udp(VIP), &[OLD])]);
    stage.forgetter.table().flows = vec![flow(VIP, OLD), flow6];
    stage.sync(&[(udp(VIP), Some(&[NEW])), (udp(VIP6), Some(&["[fd00:244::12]:53"]))], &[IpFamily::V6]);
    assert_eq!(stage.forgetter.pass(), None);
    assert_eq!(stage.left(), [flow(VIP, OLD)]);
    stage.sync(&[], &[IpFamily::V4]);
    assert_eq!(stage.forgetter.pass(), None);
    assert_eq!(stage.left(), []);
}

/// kp:F4
#[test]
fn flows_of_other_protocols_are_never_touched() {
    let of = |protocol: Protocol| Flow { protocol: protocol.number(), ..flow(VIP, OLD) };
    let flows = [of(Protocol::Tcp), of(Protocol::Sctp)];
    let mut stage = Stage::with(&flows);
    let frontends =
        [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].map(|protocol| Frontend { protocol, ..udp(VIP) });
    stage.serve(&frontends.map(|frontend| (frontend, &[OLD][..])));
    stage.serve(&frontends.map(|frontend| (frontend, &[NEW][..])));
    assert_eq!(stage.left(), flows);
}

#[test]
fn nothing_is_listed_for_an_endpoint_more_nor_for_what_is_not_udp() {
    let tcp = Frontend { protocol: Protocol::Tcp, ..udp(VIP) };
    let mut stage = Stage::with(&[]);
    stage.serve(&[(udp(VIP), &[OLD])]);
    assert_eq!(stage.forgetter.table().listings, 1);
    stage.serve(&[(udp(VIP), &[OLD, NEW]), (tcp, &[OLD])]);
    stage.serve(&[(tcp, &[NEW])]);
    assert_eq!(stage.forgetter.table().listings, 1);
}

/// kp:F2: what is asked of the kernel grows with the ports that changed, not with the whole table, up to one listing.
#[test]
fn many_frontends_are_one_listing_and_few_ports_one_each() {
    let same_port = (1..100).map(|last| format!("10.96.1.{last}:53"));
    let many_ports = (1..100).map(|port| format!("10.96.1.1:{port}"));
    let few_ports = (1..4).map(|last| format!("10.96.1.{last}:{last}"));
    let all: [(Vec<String>, usize); 3] =
        [(same_port.collect(), 1), (many_ports.collect(), 1), (few_ports.collect(), 3)];
    for (vips, listings) in all {
        let mut stage = Stage::with(&vips.iter().map(|vip| flow(vip, OLD)).collect::<Vec<_>>());
        stage.serve(&vips.iter().map(|vip| (udp(vip), &[NEW][..])).collect::<Vec<_>>());
        assert_eq!(stage.left(), []);
        assert_eq!(stage.forgetter.table().listings, listings, "{vips:?}");
    }
}

/// kp:F2: and nothing is forgotten by half a list.
#[test]
fn an_interrupted_listing_is_tried_again_later_and_later() {
    let mut stage = Stage::with(&[flow(VIP, OLD)]);
    stage.forgetter.table().interrupt_listings = 3;
    stage.sync(&[(udp(VIP), Some(&[NEW]))], &[IpFamily::V4]);
    let waits = [(); 3].map(|()| stage.forgetter.pass().unwrap());
    assert!(waits.is_sorted() && waits[0] < waits[2], "{waits:?}");
    assert_eq!(stage.left().len(), 1);
    assert_eq!(stage.forgetter.pass(), None);
    assert_eq!(stage.left(), []);
}

#[test]
fn a_refused_removal_of_one_family_does_not_keep_the_other() {
    const VIP6: &str = "[fd00:96::10]:53";
    let flow6 = flow(VIP6, "[fd00:244::11]:53");
    let mut stage = Stage::with(&[flow(VIP, OLD), flow6]);
    stage.forgetter.table().refuse_removals = 1;
    let edits = [(udp(VIP), Some(&[NEW][..])), (udp(VIP6), Some(&["[fd00:244::12]:53"][..]))];
    stage.sync(&edits, &[IpFamily::V4, IpFamily::V6]);
    assert!(stage.forgetter.pass().is_some());
    assert_eq!(stage.left(), [flow(VIP, OLD)]);
    assert_eq!(stage.forgetter.pass(), None);
    assert_eq!(stage.left(), []);
}

#[test]
fn a_frontend_that_went_before_its_flows_were_looked_through_keeps_them() {
    let mut stage = Stage::with(&[flow(VIP, OLD)]);
    stage.forgetter.table().interrupt_listings = 1;
    stage.sync(&[(udp(VIP), Some(&[NEW]))], &[IpFamily::V4]);
    assert!(stage.forgetter.pass().is_some());
    stage.sync(&[(udp(VIP), None)], &[IpFamily::V4]);
    assert_eq!(stage.forgetter.pass(), None);
    assert_eq!(stage.left(), [flow(VIP, OLD)]);
}
