//! Changes at a steady pace: whether a proxy keeps up, and what that takes.
//!
//! Every tenth change leads the probed Service to another server: a proxy that keeps up lets the client see each of them, one that gathers
//! changes lets it see some. The last one leads to a server that none did before, so that it cannot be taken for another.

use crate::Failure;
use crate::api::Api;
use crate::cluster::Size;
use crate::control::follower::Follower;
use crate::control::probe::Ground;
use crate::control::usage::Usage;
use crate::interrupt::Interrupt;
use std::thread;
use std::time::{Duration, Instant};

/// One change of so many is one that the client sees.
const SEEN: u32 = 10;

/// Changes before have lower numbers: none of these is one that was made already.
const FIRST: u32 = 1 << 17;

/// How many changes, how fast.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Changes a second.
    pub rate: u32,
    /// For so many seconds.
    pub seconds: u32,
}

/// How it went.
#[derive(Clone, Copy, Debug)]
pub struct Churn {
    /// Changes that the API server was given a second.
    pub rate: f64,
    /// The share of changes that counted for a connection before the next such one, in per cent.
    pub seen: f64,
    /// Milliseconds from the last write to the first connection that takes its way.
    pub behind: f64,
    /// Milliseconds of the proxy's CPU, by the changes.
    pub cpu: f64,
}

/// Changes endpoints all over the cluster. The probed Service leads to the first server before, and to the third one after.
///
/// # Errors
/// When the last change never counts, or the run is interrupted.
pub fn run(
    (ground, api, follower): (&Ground, &Api, &mut Follower),
    (size, pace): (Size, Pace),
    stop: &Interrupt,
) -> Result<Churn, Failure> {
    let watch = ground.watch()?;
    watch.until(0, stop, || follower.check())?;
    let (before, start) = (Usage::of(follower.id())?, Instant::now());
    let turns = (pace.rate * pace.seconds).div_ceil(SEEN).max(1);
    for number in 1..turns * SEEN {
        stop.check()?;
        let (turn, swaps) = (number / SEEN, number % SEEN == 0);
        let object = if swaps {
            ground.leading_to(u8::from(turn % 2 == 1))
        } else {
            size.scattered_change(FIRST + number)
        };
        api.apply(object)?;
        wait_until(start + Duration::from_secs_f64(f64::from(number) / f64::from(pace.rate)));
    }
    let last = Instant::now();
    api.apply(ground.leading_to(2))?;
    let written = last - start;
    let answer = watch.until(2, stop, || follower.check())?;
    let changes = f64::from(turns * SEEN);
    Ok(Churn {
        rate: changes / written.as_secs_f64(),
        seen: f64::from(answer.others + 1) * 100.0 / f64::from(turns),
        behind: (answer.at - last).as_secs_f64() * 1e3,
        cpu: (Usage::of(follower.id())?.cpu - before.cpu) * 1e3 / changes,
    })
}

fn wait_until(instant: Instant) {
    loop {
        let left = instant.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::park_timeout(left);
    }
}
