//! Where one part of the process shows the others what it knows: the newest value, and waiting for a newer one.
//!
//! Not a queue: who looks late sees the newest alone. Invariant: to post never waits for who reads, and what was posted
//! is never changed.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// A value, and the how-manieth of its board it is; 0 is what a board begins with.
#[derive(Debug, Default)]
pub struct Posted<T> {
    /// Its number.
    pub number: u64,
    /// The value.
    pub value: Arc<T>,
}

impl<T> Clone for Posted<T> {
    fn clone(&self) -> Self {
        Self { number: self.number, value: self.value.clone() }
    }
}

#[derive(Debug)]
struct Shared<T> {
    posted: Mutex<Posted<T>>,
    newer: Condvar,
    /// For tasks, which cannot wait for the former.
    told: watch::Sender<Posted<T>>,
}

/// A board; clones are the same one.
#[derive(Debug)]
pub struct Board<T>(Arc<Shared<T>>);

impl<T> Clone for Board<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Default> Default for Board<T> {
    fn default() -> Self {
        let first = Posted { number: 0, value: Arc::new(T::default()) };
        let told = watch::Sender::new(first.clone());
        Self(Arc::new(Shared { posted: Mutex::new(first), newer: Condvar::new(), told }))
    }
}

impl<T> Board<T> {
    /// Puts a value in the place of the last one.
    pub fn post(&self, value: T) {
        let posted = {
            let mut posted = self.lock();
            *posted = Posted { number: posted.number + 1, value: Arc::new(value) };
            posted.clone()
        };
        self.0.newer.notify_all();
        self.0.told.send_replace(posted);
    }

    /// The newest value.
    pub fn now(&self) -> Posted<T> {
        self.lock().clone()
    }

    /// Waits, on a thread that may, until there is a newer value than this number's, or the time is over.
    pub fn wait(&self, number: u64, patience: Duration) -> Option<Posted<T>> {
        let waited = self.0.newer.wait_timeout_while(self.lock(), patience, |posted| posted.number <= number);
        let (posted, _) = waited.unwrap_or_else(PoisonError::into_inner);
        (posted.number > number).then(|| posted.clone())
    }

    /// The same for tasks: each value is new to it once, and of many the newest.
    pub fn follow(&self) -> watch::Receiver<Posted<T>> {
        self.0.told.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Posted<T>> {
        self.0.posted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn who_waits_gets_the_newest_and_nothing_when_there_is_none() {
        let board: Board<u32> = Board::default();
        assert_eq!(*board.now().value, 0);
        assert!(board.wait(0, Duration::ZERO).is_none());
        (1..=3).for_each(|value| board.post(value));
        let newest = board.wait(1, Duration::ZERO).expect("there are two newer ones");
        assert_eq!((newest.number, *newest.value), (3, 3));
        assert!(board.wait(3, Duration::ZERO).is_none());
    }

    #[test]
    fn who_waits_is_woken() {
        let board: Board<u32> = Board::default();
        let reader = board.clone();
        let waiting = thread::spawn(move || reader.wait(0, Duration::from_secs(60)));
        board.post(7);
        assert_eq!(*waiting.join().unwrap().expect("it was posted").value, 7);
    }

    #[tokio::test]
    async fn a_task_hears_of_what_is_posted_after_it_began_to_follow() {
        let board: Board<u32> = Board::default();
        let mut follower = board.follow();
        board.post(7);
        follower.changed().await.unwrap();
        assert_eq!(*follower.borrow_and_update().value, 7);
        assert!(!follower.has_changed().unwrap());
    }
}
