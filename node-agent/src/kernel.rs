//! The door to the kernel: look, forward, apply.
//!
//! Nothing here decides. Invariant: what is applied is asked for by name, metric and protocol, so that nothing of others can
//! be meant.

mod look;
mod overlay;

use crate::diff::{RouteStep, RuleStep, Steps};
use crate::forwarding;
use crate::seen::Seen;
use heddle_netlink::link::{self, LinkIndex, Which};
use heddle_netlink::nft::{self, CommitError, TableFamily};
use heddle_netlink::{Batch, Errno, Error, Family, Refusal, Socket};
use look::Eyes;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The answers to one batch must fit into the socket's queue (212 992 bytes by default, and each takes most of one kilobyte).
const ROUTES_PER_BATCH: usize = 100;

/// Why the kernel is not as planned.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It could not be read.
    #[error("read {what}")]
    Look {
        /// What.
        what: &'static str,
        /// The cause.
        #[source]
        source: Error,
    },
    /// A table was refused.
    #[error(transparent)]
    Table(#[from] CommitError),
    /// A route was refused.
    #[error("route to {to}: {why}")]
    Route {
        /// Its destination.
        to: ipnetwork::IpNetwork,
        /// Why.
        why: Refusal,
    },
    /// Routes could not be asked for at all.
    #[error("change routes")]
    Routes(#[source] Error),
    /// Something about our device or our rules was refused.
    #[error("{what}")]
    Step {
        /// What was to be done.
        what: String,
        /// Why it was not.
        #[source]
        source: Error,
    },
    /// The node does not forward.
    #[error(transparent)]
    Forward(#[from] forwarding::Unset),
}

impl Failure {
    /// What [`kind`](Self::kind) may be.
    pub const KINDS: [&str; 5] = ["look", "table", "route", "device", "forwarding"];

    /// One word for what could not be done.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Look { .. } => "look",
            Self::Table(_) => "table",
            Self::Route { .. } | Self::Routes(_) => "route",
            Self::Step { .. } => "device",
            Self::Forward(_) => "forwarding",
        }
    }

    /// Whether it is about the way to one range of pods, and all others are as planned.
    pub fn is_of_one_route(&self) -> bool {
        matches!(self, Self::Route { .. } | Self::Step { .. })
    }
}

/// The door: the kernel, or something that behaves like it.
pub trait Kernel {
    /// Reads what decides about our routes and tables.
    ///
    /// # Errors
    /// When it cannot be read.
    fn look(&mut self) -> Result<Seen, Failure>;

    /// Makes the node a router. Links that learn their routes from routers go on to do so. Returns what was changed.
    ///
    /// # Errors
    /// The first setting that cannot be written.
    fn forward(&mut self, uplinks: &BTreeSet<LinkIndex>) -> Result<Vec<String>, Failure>;

    /// Does the steps, each whatever became of the others. Returns what was refused.
    fn apply(&mut self, steps: &Steps) -> Vec<Failure>;
}

/// The kernel of the network namespace in which it was opened. To be used on threads of that namespace.
#[derive(Debug)]
pub struct Netlink {
    routes: Socket,
    tables: Socket,
    /// ethtool's settings of links.
    features: Socket,
    families: Vec<TableFamily>,
    sysctl: PathBuf,
    /// Where the number of our device is told.
    device: Arc<AtomicU32>,
}

impl Netlink {
    /// Opens the sockets, for these families' tables.
    ///
    /// # Errors
    /// When the kernel has no such sockets or the process may not open them.
    pub fn open(families: &[TableFamily]) -> Result<Self, Error> {
        let (routes, tables) = (Socket::open(Family::Route)?, Socket::open(Family::Netfilter)?);
        let features = Socket::open(Family::Generic)?;
        Ok(Self {
            routes,
            tables,
            features,
            families: families.to_owned(),
            sysctl: "/proc/sys".into(),
            device: Arc::default(),
        })
    }

    /// The same, which writes settings below this folder.
    #[must_use]
    pub fn with_sysctl(self, sysctl: PathBuf) -> Self {
        Self { sysctl, ..self }
    }

    /// The same, which tells here the number of our VXLAN device, for those who hear of its neighbours.
    #[must_use]
    pub fn with_device(self, device: Arc<AtomicU32>) -> Self {
        Self { device, ..self }
    }

    /// The netlink ports by which notifications of our own changes are known: of routes, and of tables.
    pub fn ports(&self) -> (u32, u32) {
        (self.routes.port(), self.tables.port())
    }

    fn change_rule(&mut self, step: &RuleStep) -> Result<(), Failure> {
        let mut batch = Batch::new();
        let (rule, is_so) = match step {
            RuleStep::Add(rule) => (rule, Some(Errno::EXIST)),
            RuleStep::Delete(rule) => (rule, Some(Errno::NOENT)),
        };
        match step {
            RuleStep::Add(rule) => rule.add(&mut batch),
            RuleStep::Delete(rule) => rule.delete(&mut batch),
        };
        let what = || format!("change the routing rule for packets from {}", rule.from);
        unless(self.routes.request(&mut batch), is_so, what)
    }

    fn change_routes(&mut self, steps: &[RouteStep]) -> Vec<Failure> {
        let mut batch = Batch::new();
        for step in steps {
            match step {
                RouteStep::Add(route) => route.add(&mut batch),
                RouteStep::Replace(route) => route.replace(&mut batch),
                RouteStep::Delete(route) => route.delete(&mut batch),
            };
        }
        match self.routes.request(&mut batch) {
            Ok(()) => Vec::new(),
            Err(Error::Refused { refusals }) => {
                refusals.into_iter().filter_map(|why| refused(steps.get(why.index as usize)?, why)).collect()
            }
            Err(source) => vec![Failure::Routes(source)],
        }
    }
}

/// A refusal that says that it is so already is none.
fn unless(
    result: Result<(), Error>,
    is_so: Option<Errno>,
    what: impl FnOnce() -> String,
) -> Result<(), Failure> {
    match result {
        Err(source) if is_so.is_none() || source.errno() != is_so => {
            Err(Failure::Step { what: what(), source })
        }
        _ => Ok(()),
    }
}

/// That a route which is to go is gone already is no failure.
fn refused(step: &RouteStep, why: Refusal) -> Option<Failure> {
    match step {
        RouteStep::Delete(_) if why.errno == Errno::SRCH => None,
        RouteStep::Add(route) | RouteStep::Replace(route) | RouteStep::Delete(route) => {
            Some(Failure::Route { to: route.to, why })
        }
    }
}

impl Kernel for Netlink {
    fn look(&mut self) -> Result<Seen, Failure> {
        let Self { routes, tables, features, families, .. } = self;
        let seen = Eyes { routes, tables, features, families }.look()?;
        let number = seen.vxlan.device.as_ref().map_or(0, |device| device.link.0);
        self.device.store(number, Ordering::Relaxed);
        Ok(seen)
    }

    fn forward(&mut self, uplinks: &BTreeSet<LinkIndex>) -> Result<Vec<String>, Failure> {
        let mut names = BTreeSet::new();
        for index in uplinks {
            let found = link::fetch(&mut self.routes, Which::Index(*index));
            let found = found.map_err(|source| Failure::Look { what: "a link of this node", source })?;
            names.extend(found.map(|link| link.name));
        }
        Ok(forwarding::set(&self.sysctl, &names)?)
    }

    fn apply(&mut self, steps: &Steps) -> Vec<Failure> {
        let mut failures = Vec::new();
        for transaction in &steps.tables {
            failures.extend(nft::commit(&mut self.tables, transaction).err().map(Failure::Table));
        }
        failures.extend(steps.overlay.iter().filter_map(|step| self.change_overlay(step).err()));
        for some in steps.routes.chunks(ROUTES_PER_BATCH) {
            failures.extend(self.change_routes(some));
        }
        failures.extend(steps.rules.iter().filter_map(|step| self.change_rule(step).err()));
        failures.extend(steps.leaving.iter().filter_map(|step| self.change_overlay(step).err()));
        failures
    }
}
