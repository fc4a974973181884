//! What is being done, and how long it may still take: a line for each step, on the terminal's error side.
//!
//! Invariant: no step begins once somebody wants the run to end.

use crate::interrupt::{Interrupt, Interrupted};
use std::io::{Write, stderr};
use std::time::Instant;

/// The steps so far.
#[derive(Debug)]
pub struct Progress {
    stop: Interrupt,
    start: Instant,
    /// Seconds that everything may take.
    whole: f64,
    /// Seconds that the steps begun so far may take.
    begun: f64,
    /// Seconds that the current one may take.
    current: f64,
}

impl Progress {
    /// Of a run that may take so many seconds.
    pub fn new(whole: f64, stop: &Interrupt) -> Self {
        Self { stop: stop.clone(), start: Instant::now(), whole, begun: 0.0, current: 0.0 }
    }

    /// Everything may take so many seconds more.
    pub fn grow(&mut self, seconds: f64) {
        self.whole += seconds;
    }

    /// A step begins that may take so many seconds.
    ///
    /// # Errors
    /// [`Interrupted`]: it shall not begin.
    pub fn step(&mut self, what: &str, seconds: f64) -> Result<(), Interrupted> {
        self.stop.check()?;
        self.begun += self.current;
        self.current = seconds;
        let gone = self.start.elapsed().as_secs_f64();
        let left = left(gone, self.begun, self.whole);
        // A terminal that is gone is no reason to stop.
        let _ = writeln!(stderr(), "{gone:5.0} s, about {left:.0} s left: {what}");
        Ok(())
    }
}

/// What is left takes as much longer than planned as what is done did.
fn left(gone: f64, done: f64, whole: f64) -> f64 {
    let pace = if done > 0.0 { gone / done } else { 1.0 };
    (whole - done).max(0.0) * pace
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_machine_has_more_time_left() {
        assert!((left(0.0, 0.0, 60.0) - 60.0).abs() < 1e-9);
        assert!((left(20.0, 10.0, 60.0) - 100.0).abs() < 1e-9);
        assert!(left(20.0, 70.0, 60.0).abs() < 1e-9);
    }
}
