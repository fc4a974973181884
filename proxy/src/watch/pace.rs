//! When a watch may begin again.
//!
//! kube's watcher waits after an error, but not after a watch that the server began and ended at once; such a server would
//! be asked without pause. Pure: it is told the time.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;

/// A watch that lasted as long has done its work.
const LASTING: Duration = Duration::from_secs(5);

/// The last watch of each path.
#[derive(Debug, Default)]
pub(super) struct Pace {
    watches: BTreeMap<String, Begun>,
}

#[derive(Debug)]
struct Begun {
    at: Instant,
    /// Which server began it.
    server: usize,
    backoff: Backoff,
}

impl Pace {
    /// How long to wait before a path is watched, and which server ended the watch of before too soon. None after a
    /// watch that lasted. `random` takes a part of the wait away, so that the nodes of a cluster do not come at once.
    pub(super) fn wait(&mut self, path: &str, now: Instant, random: u64) -> Option<(Duration, usize)> {
        let begun = self.watches.get_mut(path)?;
        let is_short = now.duration_since(begun.at) < LASTING;
        let wait = begun.backoff.after(is_short)?;
        Some((jittered(wait, random), begun.server))
    }

    /// A server began to watch a path.
    pub(super) fn begins(&mut self, path: &str, server: usize, now: Instant) {
        let backoff = self.watches.get(path).map_or_else(Backoff::default, |begun| begun.backoff);
        self.watches.insert(path.to_owned(), Begun { at: now, server, backoff });
    }
}

/// From half of the wait to all of it.
fn jittered(wait: Duration, random: u64) -> Duration {
    let percent = u32::try_from(random % 51).expect("below 51");
    wait - wait * percent / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watches_that_end_at_once_are_begun_again_more_and_more_slowly() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        assert_eq!(pace.wait("/a", now, 0), None);
        let mut waits = Vec::new();
        for _ in 0..8 {
            pace.begins("/a", 1, now);
            let (wait, server) = pace.wait("/a", now, 0).unwrap();
            assert_eq!(server, 1);
            waits.push(wait.as_millis());
            now += wait;
        }
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 10_000]);
    }

    #[test]
    fn a_watch_that_lasted_begins_again_at_once() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.begins("/a", 0, now);
        assert!(pace.wait("/a", now, 0).is_some());
        pace.begins("/a", 0, now);
        assert_eq!(pace.wait("/a", now + LASTING, 0), None);
        assert_eq!(pace.wait("/b", now, 0), None);
    }

    #[test]
    fn nodes_wait_for_different_times() {
        let wait = Duration::from_secs(1);
        assert_eq!(jittered(wait, 0), wait);
        assert_eq!(jittered(wait, 50), wait / 2);
        assert_eq!(jittered(wait, 51 + 20), wait * 4 / 5);
    }
}
