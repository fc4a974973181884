//! What the agent counts: changes, syncs, and how long the network took to follow the cluster.
//!
//! Who tells also says when; no clock is read here.

use super::{ByFamily, Label, durations};
use crate::dataplane::{FamilySync, Synced};
use crate::frontends::{Frontends, IpFamily, Traffic};
use crate::model::{Change, Model, Pending, Trigger};
use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// So many changes of a family are timed at once at most: one that never succeeds, or that the kernel has not, shall not
/// fill the memory.
pub const MOST_TIMED: usize = 65_536;

type Seconds = Gauge<f64, AtomicU64>;

/// The agent's metrics, and the changes whose way into the network is still being timed.
#[derive(Clone, Debug)]
pub struct AgentMeter {
    changes: Changes,
    syncs: Syncs,
    sizes: Sizes,
    started: Timestamp,
    /// When the cluster changed in ways that the kernel has not taken yet.
    on_the_way: ByFamily<Vec<Timestamp>>,
}

#[derive(Clone, Debug)]
struct Changes {
    services: Counter,
    services_pending: Gauge,
    slices: Counter,
    slices_pending: Gauge,
}

#[derive(Clone, Debug)]
struct Syncs {
    all: ByFamily<Histogram>,
    full: ByFamily<Histogram>,
    partial: ByFamily<Histogram>,
    queued: ByFamily<Seconds>,
    succeeded: ByFamily<Seconds>,
    programming: ByFamily<Histogram>,
    failures: ByFamily<Counter>,
    leftovers: ByFamily<Counter>,
    operations: ByFamily<Counter>,
    compared: ByFamily<Counter>,
    repairs: Counter,
}

#[derive(Clone, Debug)]
struct Sizes {
    services: Gauge,
    endpoints: Gauge,
    frontends: Gauge,
    /// By traffic policy: internal, external.
    no_local: [(Traffic, ByFamily<Gauge>); 2],
}

impl Default for AgentMeter {
    /// One that nobody reads.
    fn default() -> Self {
        Self::register(&mut Registry::default(), Timestamp::UNIX_EPOCH)
    }
}

impl AgentMeter {
    pub(super) fn register(registry: &mut Registry, started: Timestamp) -> Self {
        Self {
            changes: Changes::register(registry),
            syncs: Syncs::register(registry),
            sizes: Sizes::register(registry),
            started,
            on_the_way: ByFamily { v4: Vec::new(), v6: Vec::new() },
        }
    }

    /// A change was heard of. Returns when the cluster began to want it, where that is known and is to be timed.
    pub fn hear(&self, change: &Change) -> Option<Trigger> {
        match change {
            Change::ServiceApplied(..) | Change::ServiceGone(_) => self.changes.services.inc(),
            Change::SliceApplied(..) | Change::SliceGone(_) => self.changes.slices.inc(),
            _ => 0,
        };
        match change {
            Change::SliceApplied(_, slice) => {
                slice.trigger.0.as_deref().copied().filter(|trigger| trigger.at > self.started)
            }
            _ => None,
        }
    }

    /// The model has taken a change in. It is timed only when the model differs.
    pub fn take(&mut self, trigger: Option<Trigger>, before: Pending, after: Pending) {
        if let Some(trigger) = trigger.filter(|_| before != after) {
            let family = if trigger.is_ipv6 { IpFamily::V6 } else { IpFamily::V4 };
            let waiting = self.on_the_way.of_mut(family);
            if waiting.len() < MOST_TIMED {
                waiting.push(trigger.at);
            }
        }
        self.pend(after);
    }

    /// So many changes wait for a sync.
    pub fn pend(&self, pending: Pending) {
        self.changes.services_pending.set(gauge(pending.services));
        self.changes.slices_pending.set(gauge(pending.slices));
    }

    /// Something is about to be written.
    pub fn queue(&self, now: Timestamp) {
        for family in IpFamily::ALL {
            self.syncs.queued.of(family).set(seconds(now));
        }
    }

    /// The kernel has all that these families want.
    pub fn arrive(&mut self, families: &[IpFamily], now: Timestamp) {
        for family in families {
            let programming = self.syncs.programming.of(*family);
            for since in self.on_the_way.of_mut(*family).drain(..) {
                programming.observe((seconds(now) - seconds(since)).max(0.0));
            }
        }
    }

    /// A sync ended, which had taken so long before the dataplane began to write.
    pub fn sync(&mut self, synced: &Synced, (before, now): (Duration, Timestamp)) {
        for family in &synced.families {
            self.syncs.take(family, before);
        }
        for family in &synced.written {
            self.syncs.succeeded.of(*family).set(seconds(now));
        }
        self.syncs.repairs.inc_by(u64::from(synced.is_repair()));
        self.arrive(&synced.written, now);
    }

    /// There is so much now.
    pub fn measure(&self, model: &Model, frontends: &Frontends) {
        let size = model.size();
        self.sizes.services.set(gauge(size.services));
        self.sizes.endpoints.set(gauge(size.endpoints));
        self.sizes.frontends.set(gauge(frontends.len()));
        for (traffic, ports) in &self.sizes.no_local {
            for family in IpFamily::ALL {
                ports.of(family).set(gauge(frontends.ports_without_local(*traffic, family)));
            }
        }
    }
}

impl Changes {
    fn register(registry: &mut Registry) -> Self {
        let mut pair = |what: &str, of: &str| {
            let (total, pending) = (Counter::default(), Gauge::default());
            let name = format!("kubeproxy_sync_proxy_rules_{what}_changes");
            registry.register(&name, format!("Changes of {of} that were heard of"), total.clone());
            let help = format!("Changes of {of} that no sync has taken in yet");
            registry.register(format!("{name}_pending"), help, pending.clone());
            (total, pending)
        };
        let (services, services_pending) = pair("service", "Services");
        let (slices, slices_pending) = pair("endpoint", "EndpointSlices");
        Self { services, services_pending, slices, slices_pending }
    }
}

impl Syncs {
    fn register(registry: &mut Registry) -> Self {
        const PREFIX: &str = "kubeproxy_sync_";
        let mut duration = |of: &str, help: &str| {
            ByFamily::register(registry, &format!("{PREFIX}{of}_duration_seconds"), help, durations)
        };
        let all = duration("proxy_rules", "Time of a sync, from the changed model to the kernel's answer");
        let full = duration("full_proxy_rules", "Time of a sync that read the kernel's table back");
        let partial = duration("partial_proxy_rules", "Time of a sync that sent only what changed");
        let mut stamp = |of: &str, help: &str| {
            ByFamily::register(registry, &format!("{PREFIX}proxy_rules_{of}_seconds"), help, Seconds::default)
        };
        let succeeded = stamp("last_timestamp", "When the kernel last had all that is wanted");
        let queued = stamp("last_queued_timestamp", "When there last was something to write");
        let programming = ByFamily::register(
            registry,
            "kubeproxy_network_programming_duration_seconds",
            "Time from a change of a Service's pods, as its EndpointSlice has it, to the kernel's answer",
            || Histogram::new(programming_buckets()),
        );
        let mut count = |name: &str, help: &str| ByFamily::register(registry, name, help, Counter::default);
        let failures = count(&format!("{PREFIX}proxy_rules_nftables_sync_failures"), "Syncs that failed");
        let leftovers = format!("{PREFIX}proxy_rules_nftables_cleanup_failures");
        let leftovers = count(&leftovers, "Chains that nothing uses any more and whose removal failed");
        let operations = count("heddle_kernel_operations", "Operations that the kernel took");
        let compared = count("heddle_tables_compared", "Tables that were read back and compared");
        let repairs = Counter::default();
        let help = "Times that changes which somebody else made to our tables were undone";
        registry.register("heddle_drift_repairs", help, repairs.clone());
        Self {
            all,
            full,
            partial,
            queued,
            succeeded,
            programming,
            failures,
            leftovers,
            operations,
            compared,
            repairs,
        }
    }

    fn take(&self, sync: &FamilySync, before: Duration) {
        let took = (before + sync.elapsed).as_secs_f64();
        let kind = if sync.compared > 0 { &self.full } else { &self.partial };
        self.all.of(sync.family).observe(took);
        kind.of(sync.family).observe(took);
        self.failures.of(sync.family).inc_by(u64::from(sync.failed));
        self.leftovers.of(sync.family).inc_by(sync.leftovers as u64);
        self.operations.of(sync.family).inc_by(sync.operations as u64);
        self.compared.of(sync.family).inc_by(sync.compared as u64);
    }
}

impl Sizes {
    fn register(registry: &mut Registry) -> Self {
        let mut size = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let services = size("heddle_services", "Services that are served here");
        let endpoints = size("heddle_endpoints", "Endpoints in their EndpointSlices");
        let frontends = size("heddle_frontends", "Addresses and ports at which Services are reached");
        let ports: Family<[Label; 2], Gauge> = Family::default();
        let name = "kubeproxy_sync_proxy_rules_no_local_endpoints_total";
        let help = "Ports of Services that have endpoints, but none on this node, where policy wants one";
        registry.register(name, help, ports.clone());
        let of =
            |policy, family| ports.get_or_create_owned(&[("traffic_policy", policy), ("ip_family", family)]);
        let both = |policy| ByFamily { v4: of(policy, "IPv4"), v6: of(policy, "IPv6") };
        let no_local = [(Traffic::Internal, both("internal")), (Traffic::External, both("external"))];
        Self { services, endpoints, frontends, no_local }
    }
}

/// kube-proxy's: a quarter and half a second, each second of a minute, and then coarser up to five.
fn programming_buckets() -> impl Iterator<Item = f64> {
    let whole = (1..60).chain((60..120).step_by(5)).chain((120..=300).step_by(30));
    [0.25, 0.5].into_iter().chain(whole.map(f64::from))
}

fn gauge(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn seconds(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}
