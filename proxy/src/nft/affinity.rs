//! Which clients keep their endpoint: the marks that stand for Services' ports, and the endpoints that each may remember.
//!
//! A port with session affinity has a number, the same for all its frontends, by which the kernel remembers (client,
//! number) → endpoint in one dynamic map. What is remembered is the kernel's; this only says what may be. Invariant: a
//! number depends on the port's name alone, but where two names meet in one number, so that what the kernel remembers
//! outlives a restart.

use crate::frontends::Affinity;
use heddle_netlink::nft::Cells;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A Service's port and which of its lists is meant: the clients of one do not choose from the other.
pub type Port = (Arc<str>, List);

/// One of a port's two lists of endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum List {
    /// That of the cluster.
    Cluster,
    /// That of this node.
    Local,
}

#[derive(Clone, Debug)]
struct Known {
    mark: u32,
    uses: usize,
    seconds: u32,
    endpoints: BTreeSet<Cells>,
}

/// A number whose clients are remembered for another time than before; `None` for no longer at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retimed {
    /// The number.
    pub mark: u32,
    /// Before.
    pub old: Option<u32>,
    /// After, in seconds.
    pub new: Option<u32>,
}

/// All ports with affinity.
#[derive(Clone, Debug, Default)]
pub struct Affinities {
    ports: BTreeMap<Port, Known>,
    marks: BTreeMap<u32, Port>,
    /// An endpoint or a port went: what the kernel remembers may be wrong.
    shrunk: bool,
}

impl Affinities {
    /// True when no port has affinity.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    /// One more frontend of the port. Returns its number, and how its time changed.
    pub fn acquire(&mut self, list: List, affinity: &Affinity, endpoints: BTreeSet<Cells>) -> Retimed {
        let port = (affinity.of.clone(), list);
        let (seconds, marks) = (affinity.seconds.get(), &mut self.marks);
        let known = self.ports.entry(port.clone()).or_insert_with(|| {
            let mark = free_mark(marks, &port);
            marks.insert(mark, port);
            Known { mark, uses: 0, seconds, endpoints: BTreeSet::new() }
        });
        let old = (known.uses > 0).then_some(known.seconds);
        self.shrunk |= !known.endpoints.is_subset(&endpoints);
        (known.uses, known.seconds, known.endpoints) = (known.uses + 1, seconds, endpoints);
        Retimed { mark: known.mark, old, new: Some(seconds) }
    }

    /// One frontend of the port less. Returns what changed when it was the last.
    pub fn release(&mut self, list: List, affinity: &Affinity) -> Option<Retimed> {
        let port = (affinity.of.clone(), list);
        let known = self.ports.get_mut(&port)?;
        known.uses -= 1;
        if known.uses > 0 {
            return None;
        }
        let known = self.ports.remove(&port)?;
        self.marks.remove(&known.mark);
        self.shrunk = true;
        Some(Retimed { mark: known.mark, old: Some(known.seconds), new: None })
    }

    /// Whether a client of this number may go on with this endpoint.
    pub fn allows(&self, mark: u32, endpoint: &Cells) -> bool {
        let known = self.marks.get(&mark).and_then(|port| self.ports.get(port));
        known.is_some_and(|known| known.endpoints.contains(endpoint))
    }

    /// The port that has this number.
    pub fn port(&self, mark: u32) -> Option<&str> {
        self.marks.get(&mark).map(|(name, _)| &**name)
    }

    /// Whether something went since the last call.
    pub fn take_shrunk(&mut self) -> bool {
        std::mem::take(&mut self.shrunk)
    }
}

/// A number made of the name (FNV-1a), or the next one that nobody has. Zero is the mark of all other connections.
fn free_mark(taken: &BTreeMap<u32, Port>, (name, list): &Port) -> u32 {
    let seed = if *list == List::Cluster { 0x811c_9dc5 } else { 0x050c_5d1f };
    let hash = name.bytes().fold(seed, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let mut mark = hash.max(1);
    while taken.contains_key(&mark) {
        mark = mark.wrapping_add(1).max(1);
    }
    mark
}

#[cfg(test)]
mod tests {
    use super::*;

    fn affinity(of: &str, seconds: u32) -> Affinity {
        Affinity { of: of.into(), seconds: seconds.try_into().unwrap() }
    }

    fn endpoints(ports: &[u16]) -> BTreeSet<Cells> {
        ports.iter().map(|port| Cells::default().port(*port)).collect()
    }

    /// kp:E1
    #[test]
    fn all_frontends_of_a_port_have_one_number_and_its_lists_have_two() {
        let mut all = Affinities::default();
        let first = all.acquire(List::Cluster, &affinity("a", 60), endpoints(&[1]));
        let second = all.acquire(List::Cluster, &affinity("a", 60), endpoints(&[1]));
        let local = all.acquire(List::Local, &affinity("a", 60), endpoints(&[1]));
        assert_eq!(first.mark, second.mark);
        assert_ne!(first.mark, local.mark);
        assert_ne!(first.mark, all.acquire(List::Cluster, &affinity("b", 60), endpoints(&[1])).mark);
    }

    #[test]
    fn a_number_that_is_taken_is_not_given_twice() {
        let mut taken = BTreeMap::new();
        let port: Port = ("a".into(), List::Cluster);
        let first = free_mark(&taken, &port);
        taken.insert(first, ("other".into(), List::Cluster));
        assert_eq!(free_mark(&taken, &port), first + 1);
    }

    /// kp:E3
    #[test]
    fn only_endpoints_of_the_present_list_are_allowed() {
        let mut all = Affinities::default();
        let mark = all.acquire(List::Cluster, &affinity("a", 60), endpoints(&[1, 2])).mark;
        assert!(!all.take_shrunk());
        all.acquire(List::Cluster, &affinity("a", 60), endpoints(&[2, 3]));
        all.release(List::Cluster, &affinity("a", 60));
        assert!(all.take_shrunk());
        let allowed = [1, 2, 3].map(|port| all.allows(mark, &Cells::default().port(port)));
        assert_eq!(allowed, [false, true, true]);
        assert_eq!(all.release(List::Cluster, &affinity("a", 60)).unwrap().new, None);
        assert!(!all.allows(mark, &Cells::default().port(2)) && all.take_shrunk());
    }
}
