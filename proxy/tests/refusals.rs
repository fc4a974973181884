//! What becomes of Services when the kernel refuses some of them: those are set aside, and no others.

#[path = "refusals/elements.rs"]
mod elements;
#[path = "refusals/shapes.rs"]
mod shapes;

use heddle_netlink::nft::{Table, TableFamily};
use heddle_proxy::agent::{Agent, Event};
use heddle_proxy::dataplane::Dataplane;
use heddle_proxy::delta::Delta;
use heddle_proxy::frontends::{Backends, Frontend, Frontends, resolve};
use heddle_proxy::model::{
    Change, Kind, Model, ObjectName, Policy, Protocol, Service, ServicePort, Slice, SliceEndpoint, SlicePort,
    Triggered,
};
use heddle_proxy::nft::{FakeKernel, Nft, Settings};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

const NODE: &str = "node-1";
/// The node that the Service's even endpoints are on.
const HERE: [Option<&str>; 2] = [Some(NODE), Some("node-2")];

/// One Service with its endpoints, all of it made from these.
#[derive(Clone, Debug, Default)]
struct Drawn {
    /// Last bytes of its endpoints' addresses.
    endpoints: BTreeSet<u8>,
    node_port: bool,
    local: bool,
    sticky: bool,
    /// It has a load balancer address that only some may reach.
    filtered: bool,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    (prop::collection::btree_set(1..40_u8, 0..4), any::<[bool; 4]>()).prop_map(
        |(endpoints, [node_port, local, sticky, filtered])| Drawn {
            endpoints,
            node_port,
            local,
            sticky,
            filtered,
        },
    )
}

fn endpoint(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

fn changes(number: u8, drawn: &Drawn, target: u16) -> [Change; 2] {
    let name = format!("s{number}");
    let port = ServicePort {
        name: "".into(),
        protocol: Protocol::Tcp,
        port: 80,
        node_port: drawn.node_port.then(|| 30_000 + u16::from(number)),
    };
    let service = Service {
        // Two Services share an address, so that what is refused may be due to either.
        cluster_ips: [[10, 96, 0, number / 2].into(), [0xfd00, 0, 0, 0, 0, 0, 0, number.into()].into()]
            .into(),
        ports: vec![ServicePort { port: 80 + u16::from(number % 2), ..port }],
        external_policy: if drawn.local { Policy::Local } else { Policy::Cluster },
        load_balancer_ips: drawn.filtered.then_some([192, 0, 2, number].into()).into_iter().collect(),
        source_ranges: ["10.0.0.0/8", "fd00::/16"].map(|range| range.parse().expect("a range")).into(),
        affinity: if drawn.sticky { std::num::NonZeroU32::new(60) } else { None },
        ..Service::default()
    };
    let endpoint = |last: &u8| SliceEndpoint {
        address: endpoint(*last),
        ready: true,
        serving: true,
        terminating: false,
        hints: None,
        node: HERE[usize::from(last % 2)].map(Into::into),
    };
    let slice = Slice {
        service: name.as_str().into(),
        ports: vec![SlicePort { name: "".into(), protocol: Protocol::Tcp, port: target }],
        endpoints: drawn.endpoints.iter().map(endpoint).collect(),
        trigger: Triggered::default(),
    };
    let name = ObjectName::new("default", &name);
    [Change::ServiceApplied(name.clone(), service.into()), Change::SliceApplied(name, slice.into())]
}

fn cluster(services: &[Drawn], target: u16) -> Vec<Change> {
    let services = services.iter().zip(0_u8..);
    services.flat_map(|(drawn, number)| changes(number, drawn, target)).collect()
}

fn frontends(changes: &[Change]) -> Frontends {
    let mut model = Model::default();
    changes.iter().cloned().for_each(|change| model.apply(change));
    resolve(&model, NODE)
}

const TARGET: u16 = 8080;

/// The tables that a proxy writes for these frontends and no others.
fn tables_of<'a>(
    frontends: impl Iterator<Item = (&'a Frontend, &'a Backends)>,
) -> BTreeMap<TableFamily, Table> {
    let wanted = frontends.map(|(frontend, backends)| (*frontend, backends.clone())).collect();
    let mut dataplane = Nft::new(FakeKernel::default(), &Settings::default());
    dataplane.stage(&Delta::between(&BTreeMap::new(), &wanted));
    let synced = dataplane.sync(&Frontends::new(NODE));
    assert!(synced.failures.is_empty() && synced.set_aside.is_empty());
    std::mem::take(&mut dataplane.kernel().tables)
}

fn agent() -> Agent<Nft<FakeKernel>> {
    Agent::new(NODE, Nft::new(FakeKernel::default(), &Settings::default()))
}

fn tell(agent: &mut Agent<Nft<FakeKernel>>, changes: &[Change]) {
    changes.iter().cloned().for_each(|change| agent.take(Event::Change(change)));
}

fn start(changes: &[Change]) -> Agent<Nft<FakeKernel>> {
    let mut agent = agent();
    tell(&mut agent, &[Change::Complete(Kind::Service), Change::Complete(Kind::Slice)]);
    tell(&mut agent, changes);
    agent
}

fn set_aside(agent: &mut Agent<Nft<FakeKernel>>) -> BTreeSet<Frontend> {
    agent.dataplane().set_aside().map(|refused| refused.frontend).collect()
}
