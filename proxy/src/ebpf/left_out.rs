//! Pods whose sockets are left out: when they are looked for, and what is said of those that are not found.
//!
//! The cluster names pods by their addresses, programs know network namespaces by their cookies; what leads from one to the other is
//! the door's. Pure. Invariant: while an address is not found, it is looked for again.

use super::error::Unable;
use crate::backoff::Backoff;
use crate::causes;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How often pods are looked for that were found: a runtime may have given one another namespace with the same addresses.
const PERIOD: Duration = Duration::from_secs(30);
/// A pod that starts may be known before its namespace has its addresses; one that is not found for so long is said.
const PATIENCE: Duration = Duration::from_secs(1);

/// The pods that are left out.
#[derive(Debug, Default)]
pub struct LeftOut {
    pods: BTreeSet<IpAddr>,
    had_some: bool,
    next: Option<Instant>,
    backoff: Backoff,
    /// Why the last look did not leave all of them out.
    why: Option<String>,
    said: Option<String>,
}

impl LeftOut {
    /// From now on those with these addresses are, and no others.
    pub fn want(&mut self, pods: &BTreeSet<IpAddr>, now: Instant) {
        if self.pods != *pods {
            self.pods.clone_from(pods);
            self.had_some |= !pods.is_empty();
            self.next = Some(now);
            self.backoff.after(false);
        }
    }

    /// Their addresses.
    pub fn pods(&self) -> &BTreeSet<IpAddr> {
        &self.pods
    }

    /// Whether there ever were some: connections that packets made then may go on, and what comes back is translated.
    pub fn had_some(&self) -> bool {
        self.had_some
    }

    /// Why some of them are served at sockets all the same.
    pub fn why_not_all(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// When to look for them.
    pub fn due(&self) -> Option<Instant> {
        self.next
    }

    /// Takes in what the last look came to: the addresses that were not found, or why there was none.
    pub fn settle(&mut self, outcome: Result<BTreeSet<IpAddr>, Unable>, now: Instant) {
        let why = match outcome {
            Ok(missing) if missing.is_empty() => None,
            Ok(missing) => Some(format!("no network namespace of a pod has {}", list(&missing))),
            Err(unable) => Some(causes::line(&unable)),
        };
        let wait = self.backoff.after(why.is_some());
        self.next = match wait {
            Some(wait) => Some(now + wait),
            None => (!self.pods.is_empty()).then(|| now + PERIOD),
        };
        self.why = why;
        if wait.is_none_or(|wait| wait > PATIENCE) {
            self.say();
        }
    }

    fn say(&mut self) {
        if self.why == self.said {
            return;
        }
        match &self.why {
            Some(why) => {
                warn!("pods that are to be left out are served at sockets: {why}; they are looked for again");
            }
            None => info!("all pods that are to be left out are"),
        }
        self.said.clone_from(&self.why);
    }
}

fn list(addresses: &BTreeSet<IpAddr>) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(last: &[u8]) -> BTreeSet<IpAddr> {
        last.iter().map(|last| [10, 244, 1, *last].into()).collect()
    }

    #[test]
    fn without_such_a_pod_nobody_is_ever_looked_for() {
        let (mut left_out, now) = (LeftOut::default(), Instant::now());
        left_out.want(&pods(&[]), now);
        assert_eq!(left_out.due(), None);
        left_out.settle(Ok(pods(&[])), now);
        assert_eq!(left_out.due(), None);
    }

    #[test]
    fn a_pod_is_looked_for_at_once_and_again_until_it_is_found() {
        let (mut left_out, now) = (LeftOut::default(), Instant::now());
        left_out.want(&pods(&[1, 2]), now);
        assert_eq!(left_out.due(), Some(now));
        let mut waits = Vec::new();
        for _ in 0..6 {
            left_out.settle(Ok(pods(&[2])), now);
            waits.extend(left_out.due().map(|due| (due - now).as_millis()));
        }
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200]);
        assert!(left_out.said.as_deref().is_some_and(|said| said.ends_with("has 10.244.1.2")));
        left_out.settle(Ok(pods(&[])), now);
        assert_eq!((left_out.due(), left_out.why_not_all()), (Some(now + PERIOD), None));
        assert_eq!(left_out.said, None);
    }

    #[test]
    fn another_set_of_pods_is_looked_for_at_once_and_the_same_is_not() {
        let (mut left_out, now) = (LeftOut::default(), Instant::now());
        left_out.want(&pods(&[1]), now);
        left_out.settle(Ok(pods(&[1])), now);
        let later = now + Duration::from_millis(1);
        left_out.want(&pods(&[1]), later);
        assert_eq!(left_out.due(), Some(now + Duration::from_millis(100)));
        left_out.want(&pods(&[]), later);
        assert_eq!((left_out.due(), left_out.had_some()), (Some(later), true));
    }

    #[test]
    fn what_only_takes_a_moment_is_not_said() {
        let (mut left_out, now) = (LeftOut::default(), Instant::now());
        left_out.want(&pods(&[1]), now);
        for _ in 0..3 {
            left_out.settle(Err(Unable::new("look for pods", "not now")), now);
        }
        assert_eq!(left_out.said, None);
        assert_eq!(left_out.why_not_all(), Some("look for pods: not now"), "who asks is told at once");
    }
}
