//! Sums of counters that belong to one after the other.
//!
//! A counter in a map only goes up, is used again for somebody else, and is gone with its map. What is counted is nobody's but the
//! holder's of that time. Pure. Invariant: a key's sum never goes down as long as the key is kept, whatever becomes of its counters.

use super::maps::Maps;
use super::tables::Tables;
use crate::frontends::{Frontend, IpFamily};
use crate::model::{ObjectName, Protocol};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

/// A port of a Service as clients know it: all of its addresses together, and its node port apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// The Service.
    pub service: ObjectName,
    /// The family that it is reached in.
    pub family: IpFamily,
    /// The protocol.
    pub protocol: Protocol,
    /// The port that clients connect to.
    pub port: u16,
}

/// As people name it.
impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, port, protocol, .. } = self;
        write!(f, "{service}:{port}/{protocol}")
    }
}

impl Asked {
    /// What a connection to this Service's frontend asks for.
    pub fn of(frontend: &Frontend, service: &ObjectName) -> Self {
        let Frontend { place, protocol, port } = *frontend;
        Self { service: service.clone(), family: place.family(), protocol, port }
    }
}

/// Sums by key of some counts that are taken together.
#[derive(Clone, Debug)]
pub struct Tally<K, const N: usize> {
    /// What counters had counted that are others' now, or gone.
    ended: BTreeMap<K, [u64; N]>,
    /// Whose a counter is, by its number.
    held: Vec<Option<K>>,
    /// What a counter stood at when its holder got it; few have had another one before.
    since: BTreeMap<u32, [u64; N]>,
}

impl<K, const N: usize> Default for Tally<K, N> {
    fn default() -> Self {
        Self { ended: BTreeMap::new(), held: Vec::new(), since: BTreeMap::new() }
    }
}

impl<K: Ord + Clone, const N: usize> Tally<K, N> {
    /// From now on a counter counts for this key.
    pub fn hold(&mut self, counter: u32, key: K) {
        let counter = counter as usize;
        if self.held.len() <= counter {
            self.held.resize_with(counter + 1, || None);
        }
        self.held[counter] = Some(key);
    }

    /// Whose a counter is.
    pub fn holder(&self, counter: u32) -> Option<&K> {
        self.held.get(counter as usize)?.as_ref()
    }

    /// A counter, which stands at this, counts for nobody any more.
    pub fn release(&mut self, counter: u32, now: [u64; N]) {
        let Some(key) = self.held.get_mut(counter as usize).and_then(Option::take) else { return };
        let since = self.since.insert(counter, now).unwrap_or([0; N]);
        add(self.ended.entry(key).or_insert([0; N]), &now, &since);
    }

    /// Keeps the sums of these keys, and of those that hold a counter.
    pub fn retain(&mut self, mut keep: impl FnMut(&K) -> bool) {
        self.ended.retain(|key, _| keep(key));
    }

    /// What was counted, by key as often as it has counters and one time more, where the counters stand at this.
    pub fn counts(&self, now: impl Fn(u32) -> [u64; N]) -> impl Iterator<Item = (K, [u64; N])> {
        let ended = self.ended.iter().map(|(key, sum)| (key.clone(), *sum));
        let counts = move |(counter, held): (u32, &Option<K>)| {
            let since = self.since.get(&counter).unwrap_or(&[0; N]);
            let mut counted = [0; N];
            add(&mut counted, &now(counter), since);
            Some((held.clone()?, counted))
        };
        ended.chain((0..).zip(&self.held).filter_map(counts))
    }

    /// Goes on from these sums.
    pub fn add(&mut self, sums: BTreeMap<K, [u64; N]>) {
        for (key, sum) in sums {
            add(self.ended.entry(key).or_insert([0; N]), &sum, &[0; N]);
        }
    }
}

fn add<const N: usize>(sum: &mut [u64; N], now: &[u64; N], since: &[u64; N]) {
    for ((sum, now), since) in sum.iter_mut().zip(now).zip(since) {
        *sum += now.saturating_sub(*since);
    }
}

/// Sums by endpoint. Whose a counter is, the maps know; there may be a hundred thousand.
#[derive(Clone, Debug, Default)]
pub struct ByEndpoint {
    /// What counters had counted that the endpoint has no more.
    ended: BTreeMap<SocketAddr, u64>,
    /// What a counter stood at when its last endpoint left it.
    since: BTreeMap<u32, u64>,
}

impl ByEndpoint {
    /// An endpoint left a counter, which stands at this: its sum is kept where it has another one by now.
    pub fn release(&mut self, endpoint: SocketAddr, (counter, now): (u32, u64), has_another: bool) {
        let counted = now.saturating_sub(self.since.insert(counter, now).unwrap_or_default());
        if has_another {
            *self.ended.entry(endpoint).or_default() += counted;
        } else {
            self.ended.remove(&endpoint);
        }
    }

    /// What was counted of those that a connection was led to, once or twice each, of all these with their counters, where counters stand
    /// at this.
    pub fn counts(
        &self,
        held: impl Iterator<Item = (SocketAddr, u32)>,
        now: impl Fn(u32) -> u64,
    ) -> impl Iterator<Item = (SocketAddr, u64)> {
        let counted = move |(endpoint, counter)| {
            let since = self.since.get(&counter).copied().unwrap_or_default();
            (endpoint, now(counter).saturating_sub(since))
        };
        let ended = self.ended.iter().map(|(endpoint, sum)| (*endpoint, *sum));
        ended.chain(held.map(counted)).filter(|(_, counted)| *counted > 0)
    }

    /// Goes on from these sums.
    pub fn add(&mut self, sums: impl IntoIterator<Item = (SocketAddr, u64)>) {
        sums.into_iter().for_each(|(endpoint, sum)| *self.ended.entry(endpoint).or_default() += sum);
    }
}

/// All that is counted of sockets, of what is in the maps now.
#[derive(Clone, Debug, Default)]
pub struct Tallies {
    /// By row: connections, those refused, those that went where the client had been before.
    pub rows: Tally<Asked, 3>,
    /// By endpoint's counter: connections.
    pub endpoints: ByEndpoint,
}

/// What was counted since the process started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Connections, those refused, and those that went where the client had been before.
    pub ports: BTreeMap<Asked, [u64; 3]>,
    /// Connections, of endpoints that there were some to.
    pub endpoints: BTreeMap<SocketAddr, u64>,
}

/// The same as it was found: quickly, and not yet in order. [`Sums`] are made of it where nobody waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    ports: Vec<(Asked, [u64; 3])>,
    endpoints: Vec<(SocketAddr, u64)>,
}

impl Sums {
    /// Adds what was counted.
    pub fn add(&mut self, counted: Counted) {
        for (asked, count) in counted.ports {
            add(self.ports.entry(asked).or_insert([0; 3]), &count, &[0; 3]);
        }
        for (endpoint, count) in counted.endpoints {
            *self.endpoints.entry(endpoint).or_default() += count;
        }
    }
}

impl From<Counted> for Sums {
    fn from(counted: Counted) -> Self {
        let mut sums = Self::default();
        sums.add(counted);
        sums
    }
}

impl From<&Sums> for Counted {
    fn from(sums: &Sums) -> Self {
        let ports = sums.ports.iter().map(|(asked, count)| (asked.clone(), *count)).collect();
        Self {
            ports,
            endpoints: sums.endpoints.iter().map(|(endpoint, count)| (*endpoint, *count)).collect(),
        }
    }
}

impl Tallies {
    /// All that was counted, with what stands in these tables.
    pub fn counted(&self, maps: &Maps, tables: &(impl Tables + ?Sized)) -> Counted {
        // Only what is tried out has an endpoint on the loopback device: the API server refuses it.
        let held = maps.counters().filter(|(endpoint, _)| !endpoint.ip().is_loopback());
        Counted {
            ports: self.rows.counts(|row| tables.row_count(row)).collect(),
            endpoints: self.endpoints.counts(held, |counter| tables.endpoint_count(counter)).collect(),
        }
    }

    /// A frontend's row is the second one now in place of the first, and counts for this.
    pub fn follow(&mut self, tables: &impl Tables, rows: (Option<u32>, Option<u32>), asked: Option<Asked>) {
        let (before, after) = rows;
        if let Some(row) = before.filter(|row| after.is_none() || self.rows.holder(*row) != asked.as_ref()) {
            self.rows.release(row, tables.row_count(row));
        }
        if let (Some(row), Some(asked)) = (after, asked) {
            self.rows.hold(row, asked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at<const N: usize>(now: &[[u64; N]]) -> impl Fn(u32) -> [u64; N] {
        |counter| now[counter as usize]
    }

    fn sums<const N: usize>(
        tally: &Tally<&'static str, N>,
        now: &[[u64; N]],
    ) -> BTreeMap<&'static str, [u64; N]> {
        let mut sums = BTreeMap::new();
        for (key, count) in tally.counts(at(now)) {
            add(sums.entry(key).or_insert([0; N]), &count, &[0; N]);
        }
        sums
    }

    /// ebpf:6.10
    #[test]
    fn a_counter_that_is_given_to_another_counts_for_each_in_its_time() {
        let mut tally = Tally::<&str, 1>::default();
        tally.hold(1, "web");
        assert_eq!(sums(&tally, &[[9], [4]]), [("web", [4])].into());
        tally.release(1, [5]);
        tally.hold(1, "shop");
        assert_eq!(sums(&tally, &[[9], [7]]), [("shop", [2]), ("web", [5])].into());
        tally.hold(0, "web");
        assert_eq!(sums(&tally, &[[2], [7]]), [("shop", [2]), ("web", [7])].into());
    }

    #[test]
    fn sums_outlive_the_maps_that_they_were_counted_in() {
        let mut before = Tally::<&str, 2>::default();
        before.hold(0, "web");
        before.hold(1, "web");
        let mut after = Tally::default();
        after.hold(7, "web");
        after.add(sums(&before, &[[3, 1], [4, 0]]));
        let mut now = [[0, 0]; 8];
        assert_eq!(sums(&after, &now), [("web", [7, 1])].into());
        now[7] = [1, 1];
        assert_eq!(sums(&after, &now), [("web", [8, 2])].into());
        // Without new maps, too.
        let mut none = Tally::default();
        none.add(sums(&after, &now));
        assert_eq!(sums(&none, &[]), [("web", [8, 2])].into());
    }

    #[test]
    fn whoever_is_not_kept_is_forgotten_and_begins_anew() {
        let mut tally = Tally::<&str, 1>::default();
        tally.hold(0, "web");
        tally.release(0, [5]);
        tally.retain(|key| *key != "web");
        assert_eq!(sums(&tally, &[[5]]), [].into());
        tally.hold(0, "web");
        assert_eq!(sums(&tally, &[[6]]), [("web", [1])].into());
    }

    /// ebpf:6.10
    #[test]
    fn an_endpoint_has_what_its_counters_counted_while_they_were_its_own() {
        let [web, shop]: [SocketAddr; 2] = ["10.0.0.1:80", "[fd00::1]:80"].map(|at| at.parse().unwrap());
        let mut tally = ByEndpoint::default();
        let sums = |tally: &ByEndpoint, held: &[(SocketAddr, u32)], now: [u64; 2]| -> BTreeMap<_, u64> {
            let mut sums = BTreeMap::new();
            for (endpoint, count) in tally.counts(held.iter().copied(), |counter| now[counter as usize]) {
                *sums.entry(endpoint).or_default() += count;
            }
            sums
        };
        assert_eq!(
            sums(&tally, &[(web, 0), (shop, 1)], [3, 0]),
            [(web, 3)].into(),
            "nobody asked for the other"
        );
        // Another counter counts for it now, and its old one for the other.
        tally.release(web, (0, 4), true);
        assert_eq!(sums(&tally, &[(web, 1), (shop, 0)], [6, 1]), [(web, 5), (shop, 2)].into());
        tally.add([(shop, 10)]);
        assert_eq!(sums(&tally, &[(web, 1), (shop, 0)], [6, 1]), [(web, 5), (shop, 12)].into());
        // In no list any more, it is forgotten.
        tally.release(web, (1, 1), false);
        assert_eq!(sums(&tally, &[(web, 1), (shop, 0)], [6, 2]), [(web, 1), (shop, 12)].into());
    }
}
