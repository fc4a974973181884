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

    /// The sums, where the counters stand at this.
    pub fn sums(&self, now: impl Fn(u32) -> [u64; N]) -> BTreeMap<K, [u64; N]> {
        let mut sums = self.ended.clone();
        for (counter, held) in (0..).zip(&self.held) {
            if let Some(key) = held {
                let since = self.since.get(&counter).unwrap_or(&[0; N]);
                add(sums.entry(key.clone()).or_insert([0; N]), &now(counter), since);
            }
        }
        sums
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

    /// The sums of those that a connection was led to, of all these with their counters, where counters stand at this.
    pub fn sums(
        &self,
        held: impl Iterator<Item = (SocketAddr, u32)>,
        now: impl Fn(u32) -> u64,
    ) -> BTreeMap<SocketAddr, u64> {
        let mut sums = self.ended.clone();
        for (endpoint, counter) in held {
            let counted = now(counter).saturating_sub(self.since.get(&counter).copied().unwrap_or_default());
            if counted > 0 {
                *sums.entry(endpoint).or_default() += counted;
            }
        }
        sums
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

impl Sums {
    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: Self) {
        for (asked, sum) in other.ports {
            add(self.ports.entry(asked).or_insert([0; 3]), &sum, &[0; 3]);
        }
        other.endpoints.into_iter().for_each(|(at, sum)| *self.endpoints.entry(at).or_default() += sum);
    }
}

impl Tallies {
    /// All sums, with what stands in these tables.
    pub fn sums(&self, maps: &Maps, tables: &(impl Tables + ?Sized)) -> Sums {
        // Only what is tried out has an endpoint on the loopback device: the API server refuses it.
        let held = maps.counters().filter(|(endpoint, _)| !endpoint.ip().is_loopback());
        Sums {
            ports: self.rows.sums(|row| tables.row_count(row)),
            endpoints: self.endpoints.sums(held, |counter| tables.endpoint_count(counter)),
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

    /// ebpf:6.10
    #[test]
    fn a_counter_that_is_given_to_another_counts_for_each_in_its_time() {
        let mut tally = Tally::<&str, 1>::default();
        tally.hold(1, "web");
        assert_eq!(tally.sums(at(&[[9], [4]])), [("web", [4])].into());
        tally.release(1, [5]);
        tally.hold(1, "shop");
        assert_eq!(tally.sums(at(&[[9], [7]])), [("shop", [2]), ("web", [5])].into());
        tally.hold(0, "web");
        assert_eq!(tally.sums(at(&[[2], [7]])), [("shop", [2]), ("web", [7])].into());
    }

    #[test]
    fn sums_outlive_the_maps_that_they_were_counted_in() {
        let mut before = Tally::<&str, 2>::default();
        before.hold(0, "web");
        before.hold(1, "web");
        let mut after = Tally::default();
        after.hold(7, "web");
        after.add(before.sums(at(&[[3, 1], [4, 0]])));
        let mut now = [[0, 0]; 8];
        assert_eq!(after.sums(at(&now)), [("web", [7, 1])].into());
        now[7] = [1, 1];
        assert_eq!(after.sums(at(&now)), [("web", [8, 2])].into());
        // Without new maps, too.
        let mut none = Tally::default();
        none.add(after.sums(at(&now)));
        assert_eq!(none.sums(at(&[])), [("web", [8, 2])].into());
    }

    #[test]
    fn whoever_is_not_kept_is_forgotten_and_begins_anew() {
        let mut tally = Tally::<&str, 1>::default();
        tally.hold(0, "web");
        tally.release(0, [5]);
        tally.retain(|key| *key != "web");
        assert_eq!(tally.sums(at(&[[5]])), [].into());
        tally.hold(0, "web");
        assert_eq!(tally.sums(at(&[[6]])), [("web", [1])].into());
    }

    /// ebpf:6.10
    #[test]
    fn an_endpoint_has_what_its_counters_counted_while_they_were_its_own() {
        let [web, shop]: [SocketAddr; 2] = ["10.0.0.1:80", "[fd00::1]:80"].map(|at| at.parse().unwrap());
        let mut tally = ByEndpoint::default();
        let sums = |tally: &ByEndpoint, held: &[(SocketAddr, u32)], now: [u64; 2]| {
            tally.sums(held.iter().copied(), |counter| now[counter as usize])
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
