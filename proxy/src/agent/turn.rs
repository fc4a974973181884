//! When the agent acts: on what it hears, after a failure, and while others edit.

use super::{Agent, Event};
use crate::dataplane::Dataplane;
use crate::doubts;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;
use tracing::{info, warn};

impl<D: Dataplane> Agent<D> {
    /// Takes in what was heard, and syncs unless there is nothing to do yet. Returns when to come back, if nothing is heard
    /// until then. `clock` says what time it is.
    pub fn turn(
        &mut self,
        heard: impl IntoIterator<Item = Event>,
        clock: impl Fn() -> Instant,
    ) -> Option<Instant> {
        let now = clock();
        let mut due = self.retry.into_iter().chain(self.dataplane.due()).any(|due| due <= now);
        for event in heard {
            match event {
                Event::Doubt => self.doubts.hear(),
                other => {
                    self.take(other);
                    due = true;
                }
            }
        }
        let look = self.doubts.take_due(now);
        if look {
            self.take(Event::Doubt);
        }
        if look || due {
            let wait = self.sync();
            self.retry = wait.map(|wait| clock() + wait);
        }
        if look || self.repaired {
            let news = self.doubts.found(std::mem::take(&mut self.repaired), clock());
            say(news);
        }
        say(self.doubts.rest(clock()));
        self.answer();
        self.retry.into_iter().chain(self.doubts.next()).chain(self.dataplane.due()).min()
    }

    /// Runs until every sender of events is gone.
    pub fn run(&mut self, events: &Receiver<Event>) {
        let mut next: Option<Instant> = None;
        loop {
            let first = match next {
                Some(at) => events.recv_timeout(at.saturating_duration_since(Instant::now())),
                None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let first = match first {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            next = self.turn(first.into_iter().chain(events.try_iter()), Instant::now);
        }
    }
}

fn say(news: Option<doubts::News>) {
    match news {
        Some(doubts::News::Began) => {
            warn!("somebody else edits the tables of heddle-proxy; they are repaired");
        }
        Some(doubts::News::Ended { repairs }) => {
            info!(repairs, "nobody else edits the tables of heddle-proxy any more");
        }
        None => {}
    }
}
