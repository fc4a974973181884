use super::*;
use crate::frontends::IpFamily::{V4, V6};

const PERIOD: Duration = Duration::from_secs(30);

/// Virtual time: seconds since the start.
struct Clock {
    start: Instant,
    health: Health,
}

impl Clock {
    fn new() -> Self {
        Self { start: Instant::now(), health: Health::new(PERIOD) }
    }

    fn at(&self, second: u64) -> Instant {
        self.start + Duration::from_secs(second)
    }

    fn step(&mut self, second: u64) {
        self.health.step(self.at(second));
    }

    /// A sync that began and ended in this second.
    fn sync(&mut self, second: u64, written: &[IpFamily]) {
        self.step(second);
        self.health.synced(written, self.at(second));
        self.health.rest();
    }

    fn report(&self, second: u64) -> Report {
        self.health.report(self.at(second))
    }

    fn healthy(&self, second: u64) -> bool {
        self.report(second).is_healthy()
    }
}

#[test]
fn an_agent_that_waits_for_the_cluster_is_healthy_but_not_ready() {
    let clock = Clock::new();
    let report = clock.report(86_400);
    assert!(report.is_healthy() && !report.is_ready());
    assert_eq!(report.written(), None);
}

/// kp:C18
#[test]
fn a_family_that_is_not_routed_is_neither_awaited_nor_told_of() {
    let mut clock = Clock::new();
    clock.health = Health::new(PERIOD).of_families(&[V4]);
    assert!(!clock.report(0).is_ready());
    clock.sync(1, &[V4]);
    let report = clock.report(600);
    assert!(report.is_ready() && report.is_healthy());
    assert_eq!(report.families.keys().collect::<Vec<_>>(), [&V4]);
}

#[test]
fn an_agent_is_ready_once_every_family_was_written_and_stays_so() {
    let mut clock = Clock::new();
    clock.sync(1, &[V6]);
    assert!(!clock.report(2).is_ready());
    clock.sync(3, &[V4]);
    assert!(clock.report(4).is_ready());
    clock.sync(5, &[]);
    assert!(clock.report(600).is_ready());
    assert!(!clock.report(600).is_healthy());
}

/// kp:G2: a day without changes is no reason for concern.
#[test]
fn an_idle_agent_stays_healthy() {
    let mut clock = Clock::new();
    clock.sync(1, &[V4, V6]);
    let report = clock.report(86_401);
    assert!(report.is_healthy());
    assert_eq!(report.written(), Some(Duration::from_secs(86_400)));
}

/// kp:P8: a sync of an hour, each step of which ends in time, is a working node.
#[test]
fn a_slow_sync_that_makes_progress_is_healthy() {
    let mut clock = Clock::new();
    clock.sync(0, &[V4, V6]);
    for second in (10..3600).step_by(299) {
        clock.step(second);
        assert!(clock.healthy(second + 298), "at {second} s");
    }
    clock.health.synced(&[V4, V6], clock.at(3600));
    clock.health.rest();
    assert!(clock.healthy(3600));
}

#[test]
fn an_agent_that_is_stuck_in_a_step_is_unhealthy_until_it_goes_on() {
    let mut clock = Clock::new();
    clock.sync(0, &[V4, V6]);
    clock.step(10);
    assert!(clock.healthy(309));
    assert!(!clock.healthy(310));
    assert!(clock.report(310).families.values().all(|family| !family.is_healthy));
    clock.step(400);
    assert!(clock.healthy(400));
}

/// kp:G2, kp:G3: 2 × syncPeriod, whatever is tried in between.
#[test]
fn a_family_that_fails_for_two_sync_periods_is_unhealthy_and_alone_in_it() {
    let mut clock = Clock::new();
    clock.sync(0, &[V4, V6]);
    for second in [100, 110, 120, 150] {
        clock.sync(second, &[V4]);
    }
    assert!(clock.healthy(159));
    let report = clock.report(160);
    assert!(!report.is_healthy());
    assert!(report.families[&V4].is_healthy && !report.families[&V6].is_healthy);
    assert_eq!(report.families[&V6].written, Some(Duration::from_secs(160)));
    assert_eq!(report.written(), Some(Duration::from_secs(10)));
    clock.sync(170, &[V4, V6]);
    assert!(clock.healthy(170));
}

#[test]
fn failures_are_counted_from_the_first_since_the_last_success() {
    let mut clock = Clock::new();
    for second in (0..600).step_by(50) {
        clock.sync(second, &[]);
        assert!(clock.healthy(second + 9));
        clock.sync(second + 10, &[V4, V6]);
    }
}

#[test]
fn a_first_write_that_keeps_failing_is_unhealthy() {
    let mut clock = Clock::new();
    clock.sync(5, &[]);
    clock.sync(60, &[]);
    assert!(clock.healthy(64) && !clock.healthy(65));
}
