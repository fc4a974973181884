//! The door to the kernel: look, forward, apply.
//!
//! Nothing here decides. Invariant: what is applied is asked for by name, metric and protocol, so that nothing of others can
//! be meant.

use crate::diff::{RouteStep, Steps};
use crate::forwarding;
use crate::ruleset;
use crate::seen::Seen;
use heddle_netlink::link::{self, LinkIndex, Which};
use heddle_netlink::nft::{self, CommitError, TableFamily};
use heddle_netlink::{Batch, Errno, Error, Family, Refusal, Socket, address, route};
use std::collections::BTreeSet;
use std::path::PathBuf;

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
    /// The node does not forward.
    #[error(transparent)]
    Forward(#[from] forwarding::Unset),
}

impl Failure {
    /// Whether it is about the way to one range of pods, and all others are as planned.
    pub fn is_of_one_route(&self) -> bool {
        matches!(self, Self::Route { .. })
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
    families: Vec<TableFamily>,
    sysctl: PathBuf,
}

impl Netlink {
    /// Opens the sockets, for these families' tables.
    ///
    /// # Errors
    /// When the kernel has no such sockets or the process may not open them.
    pub fn open(families: &[TableFamily]) -> Result<Self, Error> {
        let (routes, tables) = (Socket::open(Family::Route)?, Socket::open(Family::Netfilter)?);
        Ok(Self { routes, tables, families: families.to_owned(), sysctl: "/proc/sys".into() })
    }

    /// The same, which writes settings below this folder.
    #[must_use]
    pub fn with_sysctl(self, sysctl: PathBuf) -> Self {
        Self { sysctl, ..self }
    }

    /// The netlink ports by which notifications of our own changes are known: of routes, and of tables.
    pub fn ports(&self) -> (u32, u32) {
        (self.routes.port(), self.tables.port())
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
        let failed = |what| move |source| Failure::Look { what, source };
        let addresses = address::list_all(&mut self.routes).map_err(failed("the addresses of this node"))?;
        let mut seen = Seen {
            routes: route::list(&mut self.routes).map_err(failed("the routes of this node"))?,
            addresses: addresses.iter().map(|found| (found.address.ip(), found.link)).collect(),
            ..Seen::default()
        };
        for family in &self.families {
            let table = nft::load(&mut self.tables, *family, ruleset::TABLE);
            let table = table.map_err(failed("our table"))?;
            seen.tables.extend(table.map(|table| (*family, table)));
        }
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
        for some in steps.routes.chunks(ROUTES_PER_BATCH) {
            failures.extend(self.change_routes(some));
        }
        failures
    }
}
