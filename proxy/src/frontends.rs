//! What the cluster's objects mean: which address and port is served by which endpoints, and how.
//!
//! All of kube-proxy's meaning lives here, the same for every dataplane. It is pure: a [`Frontends`] depends on the model
//! and the node's name alone, whether it was resolved at once or kept up Service by Service.
//!
//! | module | what it is |
//! |---|---|
//! | [`resolve`](mod@resolve) | one Service's frontends |
//! | [`place`] | where clients connect to |
//! | [`backends`] | what stands behind that |
//! | [`disputes`] | which claims do not hold, and who has what they claim |
//! | [`locality`] | which ports are without an endpoint of this node |
//! | [`endpoints`] | one port's endpoints: ready or about to end, here or anywhere, meant for us or not |

pub mod backends;
pub mod disputes;
pub mod endpoints;
pub mod locality;
pub mod place;
pub mod resolve;

pub use backends::{Affinity, Backends, Unserved};
pub use disputes::{Contested, Dispute};
pub use endpoints::Endpoint;
pub use locality::Traffic;
pub use place::{Frontend, IpFamily, Place, Reach};

use self::locality::Localities;
use crate::delta::Delta;
use crate::memory;
use crate::model::{Dirty, Model, ObjectName, Service};
use jiff::Timestamp;
use resolve::Scope;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// How many Services are resolved before it is told what differs.
const AT_A_TIME: usize = 256;

/// Who claims a frontend, in the order in which claims hold: the oldest Service, then the first by name; a Service of
/// unknown age (a manifest) is older than all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claimant {
    created: Option<Timestamp>,
    service: ObjectName,
}

#[derive(Clone, Debug)]
struct Claim {
    by: Claimant,
    backends: Backends,
}

/// There is one for each frontend.
const _: () = assert!(size_of::<Claim>() <= 152);

/// All frontends.
#[derive(Clone, Debug)]
pub struct Frontends {
    node: Arc<str>,
    serves_external_ips: bool,
    follows_tcp: bool,
    /// The claims of each frontend, in order; the first holds.
    claims: BTreeMap<Frontend, Vec<Claim>>,
    /// What each Service claims, and since when.
    claimed: BTreeMap<ObjectName, (Option<Timestamp>, Box<[Frontend]>)>,
    /// The claims that hold no more, or again, since they were last asked for.
    disputes: Delta<Contested, Dispute>,
    localities: Localities,
}

/// Resolves the whole model for the node with this name.
pub fn resolve(model: &Model, node: &str) -> Frontends {
    let mut frontends = Frontends::new(node);
    let services = model.services().map(|(name, _)| name.clone()).collect();
    frontends.update(model, &Dirty { services, ..Dirty::default() }, |_| ());
    frontends
}

impl Frontends {
    /// No frontends, on the node with this name.
    pub fn new(node: &str) -> Self {
        Self {
            node: node.into(),
            serves_external_ips: true,
            follows_tcp: false,
            claims: BTreeMap::new(),
            claimed: BTreeMap::new(),
            disputes: Delta::default(),
            localities: Localities::default(),
        }
    }

    /// The same, but external IPs are served only if this says so.
    pub fn with_external_ips(self, served: bool) -> Self {
        Self { serves_external_ips: served, ..self }
    }

    /// The same, which also tells of TCP who may go on answering, if this says so.
    pub fn following_tcp(self, follows: bool) -> Self {
        Self { follows_tcp: follows, ..self }
    }

    /// Resolves again what is dirty and tells of the frontends whose backends differ, of some Services at a time: at a start
    /// they are all, and what differs is more than what is kept.
    pub fn update(&mut self, model: &Model, dirty: &Dirty, mut tell: impl FnMut(&Delta<Frontend, Backends>)) {
        // The node's own address is an allowed source wherever a filter lets the node in.
        let is_filtered = |(_, service): &(_, &Service)| !service.source_ranges.is_empty();
        let all = dirty.node.then(|| model.services()).into_iter().flatten();
        let filtered = all.filter(is_filtered).map(|(name, _)| name);
        let mut names = dirty.services.iter().chain(filtered).peekable();
        while names.peek().is_some() {
            let mut delta = Delta::default();
            names.by_ref().take(AT_A_TIME).for_each(|name| self.update_service(model, name, &mut delta));
            tell(&delta);
        }
    }

    fn update_service(&mut self, model: &Model, name: &ObjectName, delta: &mut Delta<Frontend, Backends>) {
        let service = model.service(name);
        let scope =
            Scope { node: &self.node, external_ips: self.serves_external_ips, follows_tcp: self.follows_tcp };
        let wanted = service.map(|s| resolve::service(model, scope, name, s)).unwrap_or_default();
        let by = Claimant { created: service.and_then(|s| s.created), service: name.clone() };
        let same = |(created, frontends): &(_, Box<[Frontend]>)| {
            *created == by.created && frontends.iter().eq(wanted.keys())
        };
        // Most changes are of endpoints: what is claimed stays.
        if !self.claimed.get(name).is_some_and(same) {
            self.reclaim(name, &by, &wanted, delta);
        }
        self.localities.replace(name, &wanted);
        for (frontend, backends) in wanted {
            self.claim(&frontend, &by, Some(backends), delta);
        }
    }

    /// Gives up what a Service claimed and does not any more, and notes what it claims now.
    fn reclaim(
        &mut self,
        name: &ObjectName,
        by: &Claimant,
        wanted: &BTreeMap<Frontend, Backends>,
        delta: &mut Delta<Frontend, Backends>,
    ) {
        if let Some((created, frontends)) = self.claimed.remove(name) {
            let old = Claimant { created, service: name.clone() };
            for frontend in frontends.iter().filter(|frontend| old != *by || !wanted.contains_key(frontend)) {
                self.claim(frontend, &old, None, delta);
            }
        }
        if !wanted.is_empty() {
            self.claimed.insert(name.clone(), (by.created, wanted.keys().copied().collect()));
        }
    }

    /// Puts, replaces or removes a claim on a frontend.
    fn claim(
        &mut self,
        frontend: &Frontend,
        by: &Claimant,
        backends: Option<Backends>,
        delta: &mut Delta<Frontend, Backends>,
    ) {
        let claims = self.claims.entry(*frontend).or_default();
        let before = claims.first().map(|claim| claim.backends.clone());
        let found = claims.binary_search_by(|claim| claim.by.cmp(by));
        let at = found.unwrap_or_else(|at| at);
        // With another owner, each loser has lost to somebody else.
        let (is_there, stays) = (found.is_ok(), backends.is_some());
        let touched = |here: bool| match at {
            0 if is_there != stays => 0..usize::MAX,
            _ => at..at + usize::from(here),
        };
        let lost = disputes::losers(frontend, claims, touched(is_there));
        match (found, backends) {
            (Ok(at), Some(backends)) => claims[at].backends = backends,
            (Ok(at), None) => drop(claims.remove(at)),
            (Err(at), Some(backends)) => {
                // Nearly every frontend has one claim: no room is kept for more.
                claims.reserve_exact(1);
                claims.insert(at, Claim { by: by.clone(), backends });
            }
            (Err(_), None) => {}
        }
        delta.record(frontend, before.as_ref(), claims.first().map(|claim| &claim.backends));
        for (contested, edit) in
            Delta::between(&lost, &disputes::losers(frontend, claims, touched(stays))).iter()
        {
            self.disputes.record(contested, edit.old.as_ref(), edit.new.as_ref());
        }
        if claims.is_empty() {
            self.claims.remove(frontend);
        }
    }

    /// The frontends with their owner and the backends that hold, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Frontend, &ObjectName, &Backends)> + Clone {
        self.claims.iter().filter_map(|(frontend, claims)| {
            let claim = claims.first()?;
            Some((frontend, &claim.by.service, &claim.backends))
        })
    }

    /// The backends of a frontend that hold.
    pub fn get(&self, frontend: &Frontend) -> Option<&Backends> {
        self.claims.get(frontend)?.first().map(|claim| &claim.backends)
    }

    /// The Services that claim a frontend and do not have it, in the order in which they would get it.
    pub fn rivals(&self, frontend: &Frontend) -> impl Iterator<Item = &ObjectName> {
        let claims = self.claims.get(frontend).map(Vec::as_slice).unwrap_or_default();
        claims.iter().skip(1).map(|claim| &claim.by.service)
    }

    /// The Service that has a frontend.
    pub fn owner(&self, frontend: &Frontend) -> Option<&ObjectName> {
        self.claims.get(frontend)?.first().map(|claim| &claim.by.service)
    }

    /// Whether a Service claims a frontend.
    pub fn has(&self, service: &ObjectName) -> bool {
        self.claimed.contains_key(service)
    }

    /// Takes no more memory than what it holds needs.
    pub fn pack(&mut self) {
        memory::pack(&mut self.claims);
        memory::pack(&mut self.claimed);
    }

    /// Which claims hold no more, or again, since the last call.
    pub fn take_disputes(&mut self) -> Delta<Contested, Dispute> {
        std::mem::take(&mut self.disputes)
    }

    /// Claims that do not hold: the frontend, the Service that has it and the one that wants it.
    pub fn conflicts(&self) -> impl Iterator<Item = (&Frontend, &ObjectName, &ObjectName)> {
        self.claims.iter().flat_map(|(frontend, claims)| {
            let others = claims.iter().skip(1);
            others.map(move |other| (frontend, &claims[0].by.service, &other.by.service))
        })
    }

    /// How many ports of Services have endpoints, but none on this node, where the policy of this traffic wants one.
    pub fn ports_without_local(&self, traffic: Traffic, family: IpFamily) -> usize {
        self.localities.ports_without_local(traffic, family)
    }

    /// Number of frontends.
    pub fn len(&self) -> usize {
        self.claims.len()
    }

    /// True when no Service has a frontend.
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }
}

/// One frontend a line, what is behind it below.
impl fmt::Display for Frontends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (frontend, owner, backends) in self.iter() {
            writeln!(f, "{frontend} {} of {owner}\n{backends}", backends.reach)?;
        }
        for (frontend, owner, other) in self.conflicts() {
            writeln!(f, "{frontend} is {owner}'s, not {other}'s")?;
        }
        Ok(())
    }
}
