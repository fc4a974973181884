//! When to look whether somebody else has changed the kernel's tables, and what to say of it.
//!
//! Pure: it is told the time. A first doubt is due at once, so that damage is short; those that follow wait, so that whoever
//! edits in a loop does not keep us reading. Invariant: a doubt is due at the latest [`PACE`] after the last look.

use std::time::{Duration, Instant};

/// How long after a look the next one may be.
pub const PACE: Duration = Duration::from_millis(200);
/// After so long without a repair, the edits are over.
pub const QUIET: Duration = Duration::from_secs(5);

/// What is known of others' edits.
#[derive(Debug, Default)]
pub struct Doubts {
    /// Something was heard since the last look.
    waiting: bool,
    looked: Option<Instant>,
    edits: Option<Edits>,
}

#[derive(Debug)]
struct Edits {
    repairs: usize,
    last: Instant,
}

/// What is to be said, once for all edits that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Somebody edits our tables.
    Began,
    /// Nobody does any more.
    Ended {
        /// How often they were undone.
        repairs: usize,
    },
}

impl Doubts {
    /// Somebody else may have changed a table.
    pub fn hear(&mut self) {
        self.waiting = true;
    }

    /// Whether to look now. Whoever is told so looks, and then says what it [`found`](Self::found).
    pub fn take_due(&mut self, now: Instant) -> bool {
        let rested = self.looked.is_none_or(|looked| looked + PACE <= now);
        rested && std::mem::take(&mut self.waiting)
    }

    /// A look is over; it may have found edits, and repaired what they did.
    pub fn found(&mut self, repaired: bool, now: Instant) -> Option<News> {
        self.looked = Some(now);
        if !repaired {
            return None;
        }
        let began = self.edits.is_none().then_some(News::Began);
        let edits = self.edits.get_or_insert(Edits { repairs: 0, last: now });
        *edits = Edits { repairs: edits.repairs + 1, last: now };
        began
    }

    /// Whether the edits are over.
    pub fn rest(&mut self, now: Instant) -> Option<News> {
        let over = self.edits.take_if(|edits| edits.last + QUIET <= now)?;
        Some(News::Ended { repairs: over.repairs })
    }

    /// When there is something to do or to say, if nothing is heard until then.
    pub fn next(&self) -> Option<Instant> {
        let look = self.looked.filter(|_| self.waiting).map(|looked| looked + PACE);
        let rest = self.edits.as_ref().map(|edits| edits.last + QUIET);
        look.into_iter().chain(rest).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_doubt_is_due_at_once_and_the_next_after_a_while() {
        let (mut doubts, start) = (Doubts::default(), Instant::now());
        assert!(!doubts.take_due(start));
        doubts.hear();
        assert!(doubts.take_due(start));
        assert_eq!(doubts.found(false, start), None);
        assert_eq!(doubts.next(), None);
        doubts.hear();
        assert!(!doubts.take_due(start + PACE / 2));
        assert_eq!(doubts.next(), Some(start + PACE));
        assert!(doubts.take_due(start + PACE));
    }

    #[test]
    fn edits_that_follow_each_other_are_said_once_and_their_end_with_the_count() {
        let (mut doubts, start) = (Doubts::default(), Instant::now());
        let said: Vec<_> = (0..3).map(|i| doubts.found(true, start + i * QUIET / 2)).collect();
        assert_eq!(said, [Some(News::Began), None, None]);
        let end = start + 2 * QUIET;
        assert_eq!(doubts.next(), Some(end));
        assert_eq!(doubts.rest(end - PACE), None);
        assert_eq!(doubts.rest(end), Some(News::Ended { repairs: 3 }));
        assert_eq!((doubts.rest(end), doubts.next()), (None, None));
    }
}
