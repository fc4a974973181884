//! What the agent counts: changes, syncs, and what they came to.

use super::{of, value};
use heddle_netlink::Errno;
use heddle_proxy::agent::{Agent, Event};
use heddle_proxy::convert::{Names, Object, Verdict, slice as convert};
use heddle_proxy::frontends::IpFamily;
use heddle_proxy::metrics::Metrics;
use heddle_proxy::metrics::agent::MOST_TIMED;
use heddle_proxy::model::{Change, Kind, ObjectName, Pending, Policy, Protocol, Service, ServicePort};
use heddle_proxy::nft::{FakeKernel, Nft, Settings};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::time::Duration;

const NODE: &str = "node-1";

/// An agent that counts, on a fake kernel.
struct Stage {
    metrics: Metrics,
    agent: Agent<Nft<FakeKernel>>,
    started: Timestamp,
}

fn name(name: &str) -> ObjectName {
    ObjectName::new("default", name)
}

impl Stage {
    fn new() -> Self {
        let started = Timestamp::now();
        let metrics = Metrics::new(started);
        let agent = Agent::new(NODE, Nft::new(FakeKernel::default(), &Settings::default()));
        let agent = agent.with_meter(metrics.agent.clone());
        let mut stage = Self { metrics, agent, started };
        stage.tell([Change::Complete(Kind::Service), Change::Complete(Kind::Slice)]);
        stage.agent.sync();
        stage
    }

    fn tell(&mut self, changes: impl IntoIterator<Item = Change>) {
        changes.into_iter().for_each(|change| self.agent.take(Event::Change(change)));
    }

    fn of(&self, name: &str, family: &str) -> f64 {
        of(&self.metrics, name, family)
    }

    fn value(&self, name: &str) -> f64 {
        value(&self.metrics, name, &[])
    }

    fn programming(&self, family: &str) -> f64 {
        self.of("kubeproxy_network_programming_duration_seconds_count", family)
    }

    /// The IPv4 endpoints of a Service, triggered so many seconds after the start.
    fn slice(&self, service: &str, last: &[u8], triggered: i64) -> Change {
        let at = self.started + SignedDuration::from_secs(triggered);
        let endpoint = |last: &u8| json!({"addresses": [format!("10.0.0.{last}")], "nodeName": "node-2"});
        let object = json!({
            "metadata": {
                "name": format!("{service}-1"),
                "labels": {"kubernetes.io/service-name": service},
                "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": at.to_string()},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": last.iter().map(endpoint).collect::<Vec<_>>(),
        });
        let object = serde_json::from_value(object).unwrap();
        match convert(&object, &mut Names::default()).unwrap() {
            Verdict::Ours(Object::Slice(slice), _) => {
                Change::SliceApplied(name(&format!("{service}-1")), slice)
            }
            other => panic!("{other:?}"),
        }
    }
}

fn service(last: u8) -> Service {
    let port = ServicePort { name: "http".into(), protocol: Protocol::Tcp, port: 80, node_port: None };
    let ips = [[10, 96, 0, last].into(), [0xfd00, 0x96, 0, 0, 0, 0, 0, u16::from(last)].into()];
    Service { cluster_ips: ips.into(), ports: vec![port], ..Service::default() }
}

#[test]
fn changes_are_pending_until_a_sync_takes_them_in() {
    let mut stage = Stage::new();
    let slice = stage.slice("web", &[1], 0);
    stage.tell([Change::ServiceApplied(name("web"), service(1).into()), slice.clone(), slice]);
    let counts = |stage: &Stage| {
        [
            "service_changes_total",
            "service_changes_pending",
            "endpoint_changes_total",
            "endpoint_changes_pending",
        ]
        .map(|of| stage.value(&format!("kubeproxy_sync_proxy_rules_{of}")))
    };
    // A slice that says nothing new is heard of, and waits for nothing.
    assert_eq!(counts(&stage), [1.0, 1.0, 2.0, 1.0]);
    stage.agent.sync();
    assert_eq!(counts(&stage), [1.0, 0.0, 2.0, 0.0]);
    let sizes = ["heddle_services", "heddle_endpoints", "heddle_frontends"].map(|of| stage.value(of));
    assert_eq!(sizes, [1.0, 1.0, 2.0]);
}

/// kp:H7: latencies and stamps are published after a success; those of a failed sync are kept for the next.
#[test]
fn a_changed_slice_is_timed_once_from_its_trigger_to_a_sync_that_succeeds() {
    let mut stage = Stage::new();
    let slice = stage.slice("web", &[1], 1);
    stage.tell([Change::ServiceApplied(name("web"), service(1).into()), slice.clone()]);
    assert_eq!(stage.programming("IPv4"), 0.0);
    stage.agent.dataplane().kernel().refuse = vec![Errno::NOMEM];
    stage.agent.sync();
    assert_eq!(stage.programming("IPv4"), 0.0, "it failed");
    stage.agent.sync();
    assert_eq!(stage.programming("IPv4"), 1.0);
    stage.tell([slice]);
    stage.agent.sync();
    assert_eq!(stage.programming("IPv4"), 1.0, "nothing changed");
    let before_the_start = stage.slice("web", &[1, 2], -1);
    stage.tell([before_the_start]);
    stage.agent.sync();
    stage.tell([Change::SliceGone(name("web-1"))]);
    stage.agent.sync();
    assert_eq!((stage.programming("IPv4"), stage.programming("IPv6")), (1.0, 0.0));
}

#[test]
fn what_a_trigger_took_is_the_time_since_it() {
    let mut stage = Stage::new();
    let metrics = &stage.metrics;
    let mut meter = metrics.agent.clone();
    let slice = stage.slice("web", &[1], 10);
    let trigger = meter.hear(&slice);
    let mut model = heddle_proxy::model::Model::default();
    let before = model.pending();
    model.apply(slice);
    meter.take(trigger, before, model.pending());
    meter.arrive(&[IpFamily::V6], stage.started + Duration::from_secs(12));
    meter.arrive(&[IpFamily::V4], stage.started + Duration::from_secs(13));
    let sum = stage.of("kubeproxy_network_programming_duration_seconds_sum", "IPv4");
    assert!((sum - 3.0).abs() < 1e-3, "{sum}");
    assert_eq!(stage.programming("IPv6"), 0.0);
    stage.agent.sync();
}

#[test]
fn changes_that_never_arrive_are_timed_up_to_a_bound() {
    let stage = Stage::new();
    let mut meter = stage.metrics.agent.clone();
    let trigger = meter.hear(&stage.slice("web", &[1], 1));
    for slices in 0..=MOST_TIMED {
        meter.take(trigger, Pending::default(), Pending { services: 0, slices: slices + 1 });
    }
    meter.arrive(&IpFamily::ALL, stage.started);
    assert_eq!(stage.programming("IPv4"), MOST_TIMED as f64);
}

#[test]
fn a_sync_is_full_where_the_table_was_read_back_and_partial_where_not() {
    let mut stage = Stage::new();
    let counts = |stage: &Stage| {
        ["sync_proxy_rules", "sync_full_proxy_rules", "sync_partial_proxy_rules"]
            .map(|of| stage.of(&format!("kubeproxy_{of}_duration_seconds_count"), "IPv4"))
    };
    assert_eq!(counts(&stage), [1.0, 1.0, 0.0]);
    stage.tell([Change::ServiceApplied(name("web"), service(1).into())]);
    stage.agent.sync();
    assert_eq!(counts(&stage), [2.0, 1.0, 1.0]);
    stage.agent.sync();
    assert_eq!(counts(&stage), [2.0, 1.0, 1.0], "there was nothing to do");
    assert_eq!(stage.of("heddle_tables_compared_total", "IPv6"), 1.0);
}

#[test]
fn a_family_that_fails_is_counted_and_its_last_success_stays() {
    let mut stage = Stage::new();
    let stamp = |stage: &Stage, of: &str, family: &str| {
        stage.of(&format!("kubeproxy_sync_proxy_rules_{of}_seconds"), family)
    };
    let first = stamp(&stage, "last_timestamp", "IPv4");
    assert!(first > 1e9, "{first}");
    stage.tell([Change::ServiceApplied(name("web"), service(1).into())]);
    stage.agent.dataplane().kernel().refuse = vec![Errno::NOMEM];
    stage.agent.sync();
    let failures = |stage: &Stage, family: &str| {
        stage.of("kubeproxy_sync_proxy_rules_nftables_sync_failures_total", family)
    };
    assert_eq!((failures(&stage, "IPv4"), failures(&stage, "IPv6")), (1.0, 0.0));
    assert!(stamp(&stage, "last_timestamp", "IPv4") <= first);
    assert!(stamp(&stage, "last_queued_timestamp", "IPv4") > first);
    assert!(stamp(&stage, "last_timestamp", "IPv6") > first);
}

#[test]
fn only_what_is_written_after_outside_damage_is_a_repair() {
    let mut stage = Stage::new();
    stage.agent.take(Event::Doubt);
    stage.agent.sync();
    assert_eq!(stage.value("heddle_drift_repairs_total"), 0.0);
    stage.agent.dataplane().kernel().tables.clear();
    stage.agent.take(Event::Doubt);
    let operations = stage.of("heddle_kernel_operations_total", "IPv4");
    stage.agent.sync();
    assert_eq!(stage.value("heddle_drift_repairs_total"), 1.0);
    assert!(stage.of("heddle_kernel_operations_total", "IPv4") > operations);
}

/// Each port once, however many addresses it has, and only while there are endpoints elsewhere.
#[test]
fn ports_without_a_local_endpoint_are_counted_by_traffic_and_family() {
    let mut stage = Stage::new();
    let count = |stage: &Stage, traffic: &str, family: &str| {
        let labels = [("traffic_policy", traffic), ("ip_family", family)];
        value(&stage.metrics, "kubeproxy_sync_proxy_rules_no_local_endpoints_total", &labels)
    };
    let mut local = service(1);
    local.internal_policy = Policy::Local;
    local.external_policy = Policy::Local;
    local.external_ips = vec![[192, 0, 2, 1].into(), [192, 0, 2, 2].into()];
    local.ports[0].node_port = Some(30_000);
    let elsewhere = stage.slice("web", &[1], 0);
    stage.tell([Change::ServiceApplied(name("web"), local.into()), elsewhere]);
    stage.agent.sync();
    assert_eq!((count(&stage, "internal", "IPv4"), count(&stage, "external", "IPv4")), (1.0, 1.0));
    assert_eq!((count(&stage, "internal", "IPv6"), count(&stage, "external", "IPv6")), (0.0, 0.0));
    stage.tell([Change::SliceGone(name("web-1"))]);
    stage.agent.sync();
    assert_eq!((count(&stage, "internal", "IPv4"), count(&stage, "external", "IPv4")), (0.0, 0.0));
}
