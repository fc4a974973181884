//! Which problem is said next, and when.
//!
//! Pure: moments are times since the start. Invariant: what is said in a time is bounded by [`BURST`] and [`PAUSE`]; what
//! waits and what is remembered by [`MOST`].

use crate::problems::{News, Problem};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// So many Events may follow each other at once.
pub(super) const BURST: u32 = 25;
/// Then one in so long a time: with a thousand nodes, 200 a second.
pub(super) const PAUSE: Duration = Duration::from_secs(5);
/// A problem that comes and goes is said again so long after it was said last.
pub(super) const REPEAT: Duration = Duration::from_secs(300);
/// No more problems than this wait to be said or are remembered.
const MOST: usize = 4096;

/// What was said of one problem, and what was not.
#[derive(Debug, Default)]
struct Said {
    /// How often it began.
    times: u32,
    /// When it was said last.
    at: Option<Duration>,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Say this one, which began so often.
    Say(Problem, u32),
    /// Wait so long.
    Wait(Duration),
    /// Wait for news.
    Nothing,
}

/// The problems to be said.
#[derive(Debug)]
pub(super) struct Pace {
    known: BTreeMap<Problem, Said>,
    waiting: VecDeque<Problem>,
    /// How many may be said at once.
    tokens: u32,
    /// The moment up to which tokens were given.
    given: Duration,
    /// How many were never said, for lack of room.
    pub(super) dropped: u64,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            known: BTreeMap::new(),
            waiting: VecDeque::new(),
            tokens: BURST,
            given: Duration::ZERO,
            dropped: 0,
        }
    }

    /// Takes news in.
    pub(super) fn take(&mut self, news: News, now: Duration) {
        match news {
            News::Began(problem) => self.began(problem, now),
            News::Ended(problem) => self.waiting.retain(|waiting| *waiting != problem),
        }
    }

    fn began(&mut self, problem: Problem, now: Duration) {
        if self.waiting.len() >= MOST {
            self.dropped += 1;
            return;
        }
        if self.known.len() >= MOST && !self.known.contains_key(&problem) {
            // What has not been said for long would be said anew in any case; the others are the price.
            self.known.retain(|_, said| said.at.is_some_and(|at| now < at + REPEAT));
            if self.known.len() >= MOST {
                self.known.clear();
            }
        }
        let said = self.known.entry(problem.clone()).or_default();
        said.times += 1;
        if said.at.is_none_or(|at| now >= at + REPEAT) && !self.waiting.contains(&problem) {
            self.waiting.push_back(problem);
        }
    }

    /// What to do now. What is to be said stays first until [`Pace::is_said`] or [`Pace::gives_up`].
    pub(super) fn next(&mut self, now: Duration) -> Next {
        let Some(problem) = self.waiting.front() else { return Next::Nothing };
        while self.tokens < BURST && now >= self.given + PAUSE {
            self.tokens += 1;
            self.given += PAUSE;
        }
        if self.tokens == BURST {
            self.given = now;
        }
        if self.tokens == 0 {
            return Next::Wait((self.given + PAUSE).saturating_sub(now));
        }
        let times = self.known.get(problem).map_or(1, |said| said.times);
        Next::Say(problem.clone(), times)
    }

    /// It was said.
    pub(super) fn is_said(&mut self, problem: &Problem, now: Duration) {
        self.gives_up(problem);
        if let Some(said) = self.known.get_mut(problem) {
            said.at = Some(now);
        }
    }

    /// It cannot be said.
    pub(super) fn gives_up(&mut self, problem: &Problem) {
        self.waiting.retain(|waiting| waiting != problem);
        self.tokens = self.tokens.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problems::{Reason, Subject};

    fn problem(number: usize) -> Problem {
        let subject = Subject::File(number.to_string().into());
        Problem { subject, reason: Reason::OBJECT_REFUSED, text: String::new() }
    }

    /// Says what may be said now.
    fn say(pace: &mut Pace, now: Duration) -> Vec<u32> {
        let mut said = Vec::new();
        while let Next::Say(problem, times) = pace.next(now) {
            pace.is_said(&problem, now);
            said.push(times);
        }
        said
    }

    #[test]
    fn a_problem_that_flaps_is_said_once_in_a_while_with_how_often_it_began() {
        let mut pace = Pace::new();
        let mut said = Vec::new();
        for second in 0..=600 {
            pace.take(News::Began(problem(1)), Duration::from_secs(second));
            said.extend(say(&mut pace, Duration::from_secs(second)));
            pace.take(News::Ended(problem(1)), Duration::from_secs(second));
        }
        assert_eq!(said, [1, 301, 601]);
    }

    #[test]
    fn many_problems_are_said_slowly_after_the_first_few() {
        let mut pace = Pace::new();
        (0..100).for_each(|number| pace.take(News::Began(problem(number)), Duration::ZERO));
        assert_eq!(say(&mut pace, Duration::ZERO).len(), 25);
        assert_eq!(pace.next(Duration::from_secs(1)), Next::Wait(Duration::from_secs(4)));
        assert_eq!(say(&mut pace, Duration::from_secs(10)).len(), 2);
        assert_eq!(
            say(&mut pace, Duration::from_secs(1000)).len(),
            25,
            "time does not add up to more than a burst"
        );
    }

    #[test]
    fn what_ends_before_it_was_said_is_not_said() {
        let mut pace = Pace::new();
        pace.take(News::Began(problem(1)), Duration::ZERO);
        pace.take(News::Ended(problem(1)), Duration::ZERO);
        assert_eq!(pace.next(Duration::ZERO), Next::Nothing);
    }

    #[test]
    fn no_number_of_problems_takes_more_than_its_room() {
        let mut pace = Pace::new();
        (0..10_000).for_each(|number| pace.take(News::Began(problem(number)), Duration::ZERO));
        assert_eq!((pace.waiting.len(), pace.dropped), (MOST, 10_000 - MOST as u64));
        assert!(pace.known.len() <= MOST);
    }
}
