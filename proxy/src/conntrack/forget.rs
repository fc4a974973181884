//! The thread that forgets: look through the flows, forget the stale ones, retry.
//!
//! It has its own sockets, so that no sync ever waits for it. While it looks, what comes gathers, and is looked for in one
//! go. The families are apart: one that fails does not keep the other.

use super::{Changes, Served};
use crate::backoff::Backoff;
use crate::frontends::IpFamily;
use crate::metrics::ConntrackMeter;
use crate::model::Protocol;
use crate::nft::Settings;
use heddle_netlink::conntrack::{self, Filter, Flow};
use heddle_netlink::{Error, Family, Socket, address};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tracing::{debug, warn};

/// After a pass, so many times its length belong to the node's other work: endpoints may come and go all the time, and a pass
/// over a table of 200 000 flows is 30 to 200 ms of a processor.
const REST: u32 = 4;

/// The door: the kernel's flows, or something that behaves like them. No kernel can be told to interrupt a listing, and what
/// happens then is why this can be replaced.
pub trait FlowTable {
    /// What the flows are, for the log.
    const WHAT: &'static str;

    /// The host's own addresses.
    ///
    /// # Errors
    /// When they cannot be listed.
    fn own_addresses(&mut self) -> Result<BTreeSet<IpAddr>, Error>;

    /// The flows that pass the filter and are wanted.
    ///
    /// # Errors
    /// When they cannot be listed, or not without gaps.
    fn list(&mut self, filter: &Filter, wanted: &dyn Fn(&Flow) -> bool) -> Result<Vec<Flow>, Error>;

    /// Forgets flows, and returns how many there still were.
    ///
    /// # Errors
    /// When some stay.
    fn forget(&mut self, flows: &[Flow]) -> Result<usize, Error>;
}

/// The kernel's flows and addresses.
#[derive(Debug)]
pub struct Tracked {
    flows: Socket,
    addresses: Socket,
}

impl Tracked {
    /// Opens the sockets in the current network namespace.
    ///
    /// # Errors
    /// When they cannot be opened. Whether the kernel tracks flows at all is not asked before there is one to forget.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { flows: Socket::open(Family::Netfilter)?, addresses: Socket::open(Family::Route)? })
    }
}

impl FlowTable for Tracked {
    const WHAT: &'static str = "tracked connections";

    fn own_addresses(&mut self) -> Result<BTreeSet<IpAddr>, Error> {
        let all = address::list_all(&mut self.addresses)?;
        Ok(all.into_iter().map(|one| one.address.ip()).collect())
    }

    fn list(&mut self, filter: &Filter, wanted: &dyn Fn(&Flow) -> bool) -> Result<Vec<Flow>, Error> {
        conntrack::list(&mut self.flows, filter, wanted)
    }

    fn forget(&mut self, flows: &[Flow]) -> Result<usize, Error> {
        conntrack::forget(&mut self.flows, flows)
    }
}

/// Forgets stale flows.
#[derive(Debug)]
pub struct Forgetter<T> {
    table: T,
    settings: Settings,
    served: Served,
    backoff: Backoff,
    meter: ConntrackMeter,
}

impl<T: FlowTable> Forgetter<T> {
    /// One that has heard of no frontend of this protocol.
    pub fn new(table: T, protocol: Protocol, settings: &Settings) -> Self {
        Self {
            table,
            settings: settings.clone(),
            served: Served::new(protocol),
            backoff: Backoff::default(),
            meter: ConntrackMeter::default(),
        }
    }

    /// The same one, which also counts.
    pub fn with_meter(self, meter: ConntrackMeter) -> Self {
        Self { meter, ..self }
    }

    /// Takes changes in. Never touches the kernel.
    pub fn take(&mut self, changes: Changes) {
        self.served.take(changes);
    }

    /// The door, for tests that look behind it.
    pub fn table(&mut self) -> &mut T {
        &mut self.table
    }

    /// Forgets every stale flow. Returns how long to wait before the next try when something failed.
    pub fn pass(&mut self) -> Option<Duration> {
        let mut failed = false;
        for family in [IpFamily::V4, IpFamily::V6] {
            if !self.served.is_due(family) {
                continue;
            }
            let start = Instant::now();
            let forgotten = self.forget_stale(family);
            self.meter.pass(family, start.elapsed());
            match forgotten {
                Ok(flows) => {
                    self.served.settle(family);
                    debug!(?family, flows, "forgot stale {} flows: {}", self.served.protocol(), T::WHAT);
                }
                Err(error) => {
                    failed = true;
                    self.report(family, &error);
                }
            }
        }
        self.backoff.after(failed)
    }

    fn forget_stale(&mut self, family: IpFamily) -> Result<usize, Error> {
        let own = self.table.own_addresses()?;
        let node = self.served.node_port_addresses(own, &self.settings);
        let served = &self.served;
        let mut forgotten = 0;
        for filter in served.filters(family) {
            let stale = self.table.list(&filter, &|flow| served.is_stale(flow, &node))?;
            let flows = self.table.forget(&stale)?;
            self.meter.delete(family, flows);
            forgotten += flows;
        }
        Ok(forgotten)
    }

    /// The first failure of a row is news, the others are not.
    fn report(&self, family: IpFamily, error: &Error) {
        let protocol = self.served.protocol();
        let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        if !self.backoff.is_failing() {
            warn!(?family, cause, "stale {protocol} flows stay for now: {}: {error}", T::WHAT);
        } else {
            debug!(?family, cause, "stale {protocol} flows still stay: {}: {error}", T::WHAT);
        }
    }

    /// Runs until the agent is gone.
    pub fn run(&mut self, changes: &Receiver<Changes>) {
        let mut retry: Option<Duration> = None;
        let mut rested = Instant::now();
        loop {
            let next = match retry {
                Some(wait) => changes.recv_timeout(wait),
                None => changes.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match next {
                Ok(change) => self.take(change),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.gather(changes, rested).is_err() {
                return;
            }
            let start = Instant::now();
            retry = self.pass();
            let end = Instant::now();
            rested = end + (end - start) * REST;
        }
    }

    /// Takes in what is there, and what comes until then; fails when the agent is gone.
    fn gather(&mut self, changes: &Receiver<Changes>, until: Instant) -> Result<(), RecvTimeoutError> {
        loop {
            match changes.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(change) => self.take(change),
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
            }
        }
    }
}
