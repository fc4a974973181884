use super::*;
use crate::model::{Change, Policy, Protocol, SliceEndpoint, SlicePort, Triggered};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

const V4: IpFamily = IpFamily::V4;
const V6: IpFamily = IpFamily::V6;
const HERE: &str = "node-1";

fn web() -> ObjectName {
    ObjectName::new("shop", "web")
}

fn service(port: Option<u16>) -> Service {
    Service {
        cluster_ips: vec!["10.96.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        external_policy: Policy::Local,
        health_check_node_port: port,
        ..Service::default()
    }
}

fn endpoint(address: &str, node: &str) -> SliceEndpoint {
    SliceEndpoint {
        address: address.parse().unwrap(),
        ready: true,
        serving: true,
        terminating: false,
        node: Some(node.into()),
        hints: None,
    }
}

fn slice(port: &str, endpoints: &[SliceEndpoint]) -> Slice {
    let port = SlicePort { name: port.into(), protocol: Protocol::Tcp, port: 8080 };
    let trigger = Triggered::default();
    Slice { service: "web".into(), ports: vec![port], endpoints: endpoints.to_vec(), trigger }
}

/// The agent's part: a model and an outbox.
struct Stage {
    model: Model,
    outbox: Outbox,
    inbox: UnboundedReceiver<Changes>,
}

impl Stage {
    fn new() -> Self {
        let (to, inbox) = unbounded_channel();
        Self { model: Model::default(), outbox: Outbox::new(HERE, to), inbox }
    }

    fn apply(&mut self, change: Change) {
        self.model.apply(change);
        let dirty = self.model.take_dirty();
        self.outbox.stage(&self.model, &dirty);
    }

    fn put(&mut self, port: Option<u16>) {
        self.apply(Change::ServiceApplied(web(), service(port).into()));
    }

    fn put_slice(&mut self, name: &str, endpoints: &[SliceEndpoint]) {
        self.apply(Change::SliceApplied(ObjectName::new("shop", name), slice(name, endpoints).into()));
    }

    /// What is handed over when the kernel takes these families: port and count of each check.
    fn handed(&mut self, written: &[IpFamily]) -> Vec<(IpFamily, Option<(u16, usize)>)> {
        self.outbox.hand_over(written);
        let changes = self.inbox.try_recv().unwrap_or_default();
        let check = |((family, _), check): (Key, Option<Check>)| (family, check.map(|c| (c.port, c.local)));
        changes.checks.into_iter().map(check).collect()
    }
}

/// kp:G6: also with no endpoint at all; and gone with the policy that wants it, or with the Service.
#[test]
fn a_check_is_there_from_the_service_on_until_it_wants_it_no_more() {
    let mut stage = Stage::new();
    stage.put(Some(30_001));
    assert_eq!(stage.handed(&[V4, V6]), [(V4, Some((30_001, 0))), (V6, Some((30_001, 0)))]);
    stage.put(Some(30_002));
    assert_eq!(stage.handed(&[V4, V6]), [(V4, Some((30_002, 0))), (V6, Some((30_002, 0)))]);
    stage.put(None);
    assert_eq!(stage.handed(&[V4, V6]), [(V4, None), (V6, None)]);
    stage.put(Some(30_001));
    stage.handed(&[V4, V6]);
    stage.apply(Change::ServiceGone(web()));
    assert_eq!(stage.handed(&[V4, V6]), [(V4, None), (V6, None)]);
}

#[test]
fn a_service_is_checked_in_the_families_of_its_cluster_ips() {
    let mut stage = Stage::new();
    let single = Service { cluster_ips: vec!["fd00::1".parse().unwrap()], ..service(Some(30_001)) };
    stage.apply(Change::ServiceApplied(web(), single.into()));
    assert_eq!(stage.handed(&[V4, V6]), [(V6, Some((30_001, 0)))]);
}

/// kp:G7
#[test]
fn distinct_addresses_of_ready_endpoints_on_this_node_count_over_all_ports() {
    let mut stage = Stage::new();
    stage.put(Some(30_001));
    let unready = SliceEndpoint { ready: false, ..endpoint("10.1.0.3", HERE) };
    let terminating = SliceEndpoint { ready: false, terminating: true, ..endpoint("10.1.0.4", HERE) };
    let nowhere = SliceEndpoint { node: None, ..endpoint("10.1.0.5", HERE) };
    let shared = endpoint("10.1.0.1", HERE);
    stage.put_slice("http", &[shared.clone(), endpoint("10.1.0.2", HERE), unready, terminating, nowhere]);
    stage.put_slice("https", &[shared, endpoint("10.1.9.9", "node-2"), endpoint("10.1.0.6", HERE)]);
    stage.put_slice("six", &[endpoint("fd00:1::1", HERE)]);
    assert_eq!(stage.handed(&[V4, V6]), [(V4, Some((30_001, 3))), (V6, Some((30_001, 1)))]);
}

#[test]
fn what_a_family_failed_to_write_waits_for_it() {
    let mut stage = Stage::new();
    stage.put(Some(30_001));
    assert_eq!(stage.handed(&[]), []);
    assert_eq!(stage.handed(&[V6]), [(V6, Some((30_001, 0)))]);
    stage.put_slice("http", &[endpoint("10.1.0.1", HERE)]);
    assert_eq!(stage.handed(&[V4, V6]), [(V4, Some((30_001, 1)))]);
}

#[test]
fn changes_that_concern_no_check_are_not_handed_over() {
    let mut stage = Stage::new();
    stage.put(None);
    stage.put_slice("http", &[endpoint("10.1.0.1", HERE)]);
    stage.outbox.hand_over(&[V4, V6]);
    assert!(stage.inbox.try_recv().is_err());
    stage.put(Some(30_001));
    stage.handed(&[V4, V6]);
    stage.put_slice("http", &[endpoint("10.1.0.1", HERE), endpoint("10.1.9.9", "node-2")]);
    stage.outbox.hand_over(&[V4, V6]);
    assert!(stage.inbox.try_recv().is_err());
}

#[test]
fn the_nodes_addresses_are_handed_over_when_they_change() {
    let mut stage = Stage::new();
    let node_addresses = vec!["192.0.2.1".parse().unwrap()];
    stage
        .outbox
        .surround(&Surroundings { node_addresses: node_addresses.clone(), ..Surroundings::default() });
    stage.outbox.hand_over(&[V4]);
    assert_eq!(stage.inbox.try_recv().unwrap().node_addresses, node_addresses);
    stage.outbox.hand_over(&[V4]);
    assert!(stage.inbox.try_recv().is_err());
}

/// kp:G6: where a family is not routed, nobody is told of endpoints that cannot be reached by it, and no listener fails for it.
#[test]
fn a_family_that_is_not_routed_has_no_checks() {
    let mut stage = Stage::new();
    stage.outbox = mem::take(&mut stage.outbox).of_families(&[V4]);
    stage.put(Some(30_001));
    assert_eq!(stage.handed(&[V4, V6]), [(V4, Some((30_001, 0)))]);
}
