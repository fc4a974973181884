//! The door between what frontends mean and how a kernel is told.
//!
//! A dataplane keeps the wanted state of the kernel. [`Dataplane::stage`] only edits that; [`Dataplane::sync`] is the one
//! place that touches the kernel.

use crate::causes;
use crate::delta::Delta;
use crate::ebpf::View;
use crate::frontends::{Backends, Frontend, Frontends, IpFamily};
use crate::model::Model;
use heddle_netlink::nft::Table;
use ipnetwork::IpNetwork;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Something that routes frontends to endpoints.
pub trait Dataplane {
    /// Takes edits into the wanted state. Never fails, never touches the kernel.
    fn stage(&mut self, delta: &Delta<Frontend, Backends>);

    /// Takes in what the node and the cluster are like. Never fails, never touches the kernel.
    fn surround(&mut self, surroundings: &Surroundings);

    /// Brings the kernel to the wanted state. Where the kernel's state is known, only what was staged since is sent;
    /// where it is not (at start, after a failure, after damage), it is read back and compared. `wanted` is what all that
    /// was staged adds up to.
    fn sync(&mut self, wanted: &Frontends) -> Synced;

    /// When to sync although nothing was staged, because the kernel still has what is no longer wanted; `None` when it
    /// has nothing more.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// The nf_tables tables that the kernel is to have; none, where it routes by other means.
    fn wanted(&self) -> Vec<&Table> {
        Vec::new()
    }

    /// What there is to see of sockets; `None` where they are not to be served.
    fn sockets(&self) -> Option<View<'_>> {
        None
    }

    /// The kernel's state may not be what we left: the next sync reads it back.
    fn doubt(&mut self);

    /// Sockets may not be served any more. [`Dataplane::due`] says whether that is to be looked at.
    fn look_again(&mut self) {}

    /// The node's addresses may have changed. [`Dataplane::due`] says whether they are to be listed.
    fn addresses_changed(&mut self) {}

    /// Rules of others may have changed. [`Dataplane::due`] says whether they are to be looked at.
    fn others_changed(&mut self) {}
}

impl<T: Dataplane + ?Sized> Dataplane for Box<T> {
    fn stage(&mut self, delta: &Delta<Frontend, Backends>) {
        (**self).stage(delta);
    }

    fn surround(&mut self, surroundings: &Surroundings) {
        (**self).surround(surroundings);
    }

    fn sync(&mut self, wanted: &Frontends) -> Synced {
        (**self).sync(wanted)
    }

    fn due(&self) -> Option<Instant> {
        (**self).due()
    }

    fn wanted(&self) -> Vec<&Table> {
        (**self).wanted()
    }

    fn sockets(&self) -> Option<View<'_>> {
        (**self).sockets()
    }

    fn doubt(&mut self) {
        (**self).doubt();
    }

    fn look_again(&mut self) {
        (**self).look_again();
    }

    fn addresses_changed(&mut self) {
        (**self).addresses_changed();
    }

    fn others_changed(&mut self) {
        (**self).others_changed();
    }
}

/// What routing depends on besides frontends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The node's addresses, the first of each family being its own.
    pub node_addresses: Vec<IpAddr>,
    /// The networks that the node's pods get their addresses from.
    pub pod_cidrs: Vec<IpNetwork>,
    /// The ranges that cluster IPs come from.
    pub service_cidrs: BTreeSet<IpNetwork>,
    /// Networks between whose addresses nothing is translated, and nothing is to be tracked.
    pub untracked: Vec<Untracked>,
    /// The addresses of this node's pods whose sockets are left out.
    pub left_out: BTreeSet<IpAddr>,
}

/// A network between whose addresses nothing is to be tracked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Untracked {
    /// It.
    pub network: IpNetwork,
    /// Those of its addresses that are the node's own. What is for them is tracked.
    pub own: BTreeSet<IpAddr>,
}

impl Surroundings {
    /// What the model says of them, and before it the address that the node is said to have.
    pub fn of(model: &Model, node_address: Option<IpAddr>) -> Self {
        let of_the_object = model.node().addresses.iter().copied();
        Self {
            node_addresses: node_address.into_iter().chain(of_the_object).collect(),
            pod_cidrs: model.node().pod_cidrs.clone(),
            service_cidrs: model.service_cidrs(),
            untracked: Vec::new(),
            left_out: model.left_out(),
        }
    }
}

/// What a sync did.
#[derive(Debug, Default)]
pub struct Synced {
    /// Operations that the kernel took.
    pub operations: usize,
    /// Families for which the kernel has all that is wanted, those of which nothing is wanted included.
    pub written: Vec<IpFamily>,
    /// Tables that were read back and compared.
    pub compared: usize,
    /// Tables among these that were not as they had been left: somebody else had edited them.
    pub repaired: usize,
    /// What failed, a sentence each. The rest was done.
    pub failures: Vec<Failure>,
    /// All frontends that are left out because the kernel refuses them, those of earlier syncs included.
    pub set_aside: Vec<SetAside>,
    /// Objects that nothing uses any more and whose removal failed; the next sync looks for them.
    pub leftovers: usize,
    /// The same by family, for those that count.
    pub families: Vec<FamilySync>,
    /// After how long clients of the node were led by what is wanted, where that is so before the rest is done.
    pub led_after: Option<Duration>,
}

impl Synced {
    /// Whether edits of somebody else were undone: one repair, however many tables it was in.
    pub fn is_repair(&self) -> bool {
        self.repaired > 0
    }
}

/// What a sync did for one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FamilySync {
    /// The family.
    pub family: IpFamily,
    /// Operations that the kernel took.
    pub operations: usize,
    /// How often the kernel's table was read back and compared.
    pub compared: usize,
    /// Unused objects whose removal failed.
    pub leftovers: usize,
    /// For how long.
    pub elapsed: Duration,
    /// Whether something failed.
    pub failed: bool,
}

/// A frontend that the kernel refuses. It is not served; it is tried again when it changes, when the kernel's state was in
/// doubt, and at a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// The frontend.
    pub frontend: Frontend,
    /// What was refused, and the kernel's reason.
    pub why: String,
}

/// A part of a sync that failed; it stays staged.
#[derive(Debug)]
pub struct Failure {
    /// What was tried.
    pub what: String,
    /// The cause.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, causes::line(&*self.source))
    }
}
