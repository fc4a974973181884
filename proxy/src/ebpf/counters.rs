//! Which counter each endpoint has: one, in however many lists it is.
//!
//! It knows nothing of the maps that the counters lie in. There may be a hundred thousand endpoints, so each family has its own keys.
//! Invariant: a counter is one endpoint's, or nobody's.

use crate::memory;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The counters of all endpoints.
#[derive(Debug, Default)]
pub struct Counters {
    v4: BTreeMap<(Ipv4Addr, u16), Held>,
    v6: BTreeMap<(Ipv6Addr, u16), Held>,
    free: Vec<u32>,
    all: u32,
    /// Endpoints that are in no list any more, with the counters that they had.
    released: Vec<(SocketAddr, u32)>,
}

/// An endpoint's counter, and in how many lists the endpoint is.
#[derive(Clone, Copy, Debug)]
struct Held {
    counter: u32,
    lists: u32,
}

const _: () = assert!(size_of::<((Ipv4Addr, u16), Held)>() == 16);

impl Counters {
    /// How many there are, held or not.
    pub fn extent(&self) -> u32 {
        self.all
    }

    /// Each endpoint with its counter.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, u32)> {
        let v4 = self.v4.iter().map(|(at, held)| (SocketAddr::from(*at), held.counter));
        v4.chain(self.v6.iter().map(|(at, held)| (SocketAddr::from(*at), held.counter)))
    }

    /// Whether an endpoint is in a list.
    pub fn has(&self, at: &SocketAddr) -> bool {
        match at.ip() {
            IpAddr::V4(ip) => self.v4.contains_key(&(ip, at.port())),
            IpAddr::V6(ip) => self.v6.contains_key(&(ip, at.port())),
        }
    }

    /// The counter of an endpoint that is in one more list.
    pub fn acquire(&mut self, at: SocketAddr) -> u32 {
        let (free, all) = (&mut self.free, &mut self.all);
        let fresh = || {
            free.pop().unwrap_or_else(|| {
                *all += 1;
                *all - 1
            })
        };
        match at.ip() {
            IpAddr::V4(ip) => hold(&mut self.v4, (ip, at.port()), fresh),
            IpAddr::V6(ip) => hold(&mut self.v6, (ip, at.port()), fresh),
        }
    }

    /// An endpoint is in one list less. Returns its counter when it is in none: nobody's now, but programs may still be on their way to it.
    pub fn release(&mut self, at: SocketAddr) -> Option<u32> {
        let left = match at.ip() {
            IpAddr::V4(ip) => let_go(&mut self.v4, &(ip, at.port())),
            IpAddr::V6(ip) => let_go(&mut self.v6, &(ip, at.port())),
        };
        let counter = left?;
        self.released.push((at, counter));
        Some(counter)
    }

    /// Takes back a counter that was released, for others.
    pub fn take_back(&mut self, counter: u32) {
        self.free.push(counter);
    }

    /// The endpoints that were released since the last call, with the counters that they had.
    pub fn take_released(&mut self) -> Vec<(SocketAddr, u32)> {
        std::mem::take(&mut self.released)
    }

    /// Takes no more memory than what it holds needs.
    pub fn pack(&mut self) {
        memory::pack(&mut self.v4);
        memory::pack(&mut self.v6);
    }
}

fn hold<K: Ord>(map: &mut BTreeMap<K, Held>, at: K, fresh: impl FnOnce() -> u32) -> u32 {
    let held = map.entry(at).or_insert_with(|| Held { counter: fresh(), lists: 0 });
    held.lists += 1;
    held.counter
}

fn let_go<K: Ord>(map: &mut BTreeMap<K, Held>, at: &K) -> Option<u32> {
    let held = map.get_mut(at)?;
    held.lists -= 1;
    if held.lists > 0 {
        return None;
    }
    map.remove(at).map(|held| held.counter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_keeps_its_counter_until_it_is_in_no_list() {
        let mut counters = Counters::default();
        let [four, six]: [SocketAddr; 2] = ["10.0.0.1:80", "[fd00::1]:80"].map(|at| at.parse().unwrap());
        assert_eq!([counters.acquire(four), counters.acquire(six), counters.acquire(four)], [0, 1, 0]);
        assert_eq!((counters.has(&four), counters.take_released()), (true, vec![]));
        assert_eq!(
            [counters.release(four), counters.release(four), counters.release(four)],
            [None, Some(0), None]
        );
        assert_eq!(
            (counters.take_released(), counters.has(&four), counters.has(&six)),
            (vec![(four, 0)], false, true)
        );
        assert_eq!(counters.iter().collect::<Vec<_>>(), [(six, 1)]);
        // Until it is given back it is nobody's.
        assert_eq!(counters.acquire(four), 2);
        counters.take_back(0);
        counters.pack();
        assert_eq!((counters.release(six), counters.acquire(six), counters.extent()), (Some(1), 0, 3));
    }
}
