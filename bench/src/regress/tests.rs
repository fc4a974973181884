//! Samples with the noise that machines have: small for most rounds, with some that something else slowed down.

use super::*;
use crate::report::Environment;

/// Numbers that look random, the same for one seed (xorshift, Marsaglia 2003).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Of 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        f64::from(u32::try_from(self.0 >> 32).unwrap()) / f64::from(u32::MAX)
    }

    /// Around one: two per cent this way and that, and now and then up to a third more.
    fn noisy(&mut self) -> f64 {
        let near = (0..4).map(|_| self.next()).sum::<f64>() - 2.0;
        let slowed = if self.next() < 0.1 { self.next() / 3.0 } else { 0.0 };
        1.0 + 0.035 * near + slowed
    }
}

const ROUNDS: usize = 15;

/// A report of six workloads, each of `direct` and of a subject that takes so many times as long and `delay` more (µs), on a machine that
/// goes at another speed in each round.
fn report(seed: u64, times: f64, delay: f64) -> Report {
    let mut random = Random::new(seed);
    let mut report = Report::new("test", Environment::default());
    for workload in 0..6 {
        let workload = format!("workload {workload}");
        let speeds: Vec<f64> = (0..ROUNDS).map(|_| 0.8 + 0.5 * random.next()).collect();
        let mut figure = |subject, usual: f64, delay: f64| {
            let values: Vec<f64> =
                speeds.iter().map(|speed| speed * usual * random.noisy() + delay).collect();
            report.add(Figure::new(Part::DataPlane, &workload, subject).less("µs of CPU", &values));
        };
        figure("direct", 50.0, 0.0);
        figure("heddle nft", 60.0 * times, delay);
    }
    let changes: Vec<f64> = (0..200).map(|_| 0.1 * times * random.noisy() + delay / 1e3).collect();
    let change = Figure::new(Part::ControlPlane, "change", "heddle nft").less("ms", &changes);
    report.add(change.distribution());
    report.add(Figure::new(Part::ControlPlane, "memory", "heddle nft").less("MB", &[30.0 * random.noisy()]));
    report
}

/// The same pairs of reports each time: in others, chance may hide what differs.
#[test]
fn what_takes_a_tenth_more_is_found_and_what_takes_less_is_no_regression() {
    let hidden = |seed: &u64| {
        let (before, after) = (report(2 * seed, 1.0, 0.0), report(2 * seed + 1, 1.1, 0.0));
        let (found, back) = (compare(&before, &after, THRESHOLD), compare(&after, &before, THRESHOLD));
        assert!(found.improvements.is_empty() && back.regressions.is_empty(), "{seed}: {found}{back}");
        found.regressions.len() < 3 || back.improvements.len() < 3
    };
    let hidden: Vec<u64> = (0..100).filter(hidden).collect();
    assert_eq!(hidden, [0_u64; 0]);
}

#[test]
fn a_delay_of_a_millisecond_is_found_everywhere() {
    for seed in 0..50 {
        let found = compare(&report(2 * seed, 1.0, 0.0), &report(2 * seed + 1, 1.0, 1000.0), THRESHOLD);
        assert_eq!(found.regressions.len(), 7, "{seed}: {found}");
    }
}

/// As often as [`CHANCE`] says, and no more.
#[test]
fn the_same_measured_twice_is_a_regression_once_in_a_hundred_times_at_most() {
    let told = |seed: &u64| {
        let found = compare(&report(2 * seed, 1.0, 0.0), &report(2 * seed + 1, 1.0, 0.0), THRESHOLD);
        !found.regressions.is_empty() || !found.improvements.is_empty()
    };
    let found: Vec<u64> = (0..100).filter(told).collect();
    assert!(found.len() <= 1, "{found:?}");
}

#[test]
fn a_report_is_no_regression_of_itself() {
    let one = report(7, 1.0, 0.0);
    let found = compare(&one, &one, THRESHOLD);
    assert_eq!(found, Comparison { compared: 14, told: 7, ..Comparison::default() });
    assert_eq!(compare(&one, &one, 0.0).regressions, []);
}

#[test]
fn a_rate_that_falls_is_a_regression() {
    let bulk = |values: &[f64]| {
        let mut report = Report::new("test", Environment::default());
        report.add(Figure::new(Part::DataPlane, "bulk TCP", "heddle nft").more("Gbit/s", values));
        report
    };
    let (fast, slow) = (bulk(&[10.0, 11.0, 10.5, 10.2, 10.1, 10.4]), bulk(&[5.0, 5.5, 5.1, 5.2, 5.3, 5.4]));
    assert_eq!(compare(&fast, &slow, THRESHOLD).regressions.len(), 1);
    assert_eq!(compare(&slow, &fast, THRESHOLD).improvements.len(), 1);
}

#[test]
fn single_values_are_worse_only_when_they_are_several_times_as_much() {
    let memory = |value| {
        let mut report = Report::new("test", Environment::default());
        report.add(Figure::new(Part::ControlPlane, "memory", "heddle nft").less("MB", &[value]));
        report
    };
    let twice = compare(&memory(30.0), &memory(60.0), THRESHOLD);
    assert!(twice.regressions.is_empty() && twice.untold.len() == 1, "{twice}");
    assert_eq!(compare(&memory(30.0), &memory(100.0), THRESHOLD).regressions.len(), 1);
}

#[test]
fn a_distribution_of_one_start_is_worse_only_when_it_takes_twice_as_long() {
    let changes = |times: f64| {
        let values: Vec<f64> = (0..100).map(|at| times * (1.0 + 0.001 * f64::from(at * 37 % 100))).collect();
        let mut report = Report::new("test", Environment::default());
        report
            .add(Figure::new(Part::ControlPlane, "change", "heddle nft").less("ms", &values).distribution());
        report
    };
    assert!(compare(&changes(1.0), &changes(1.6), THRESHOLD).regressions.is_empty());
    assert_eq!(compare(&changes(1.0), &changes(2.5), THRESHOLD).regressions.len(), 1);
}

#[test]
fn tails_that_jump_by_themselves_are_no_regression() {
    let tails = |values: &[f64]| {
        let mut report = report(5, 1.0, 0.0);
        report.add(Figure::new(Part::DataPlane, "p99", "heddle nft").less("µs", values));
        report
    };
    let calm = tails(&[150.0, 170.0, 3000.0, 160.0, 155.0, 180.0, 2800.0]);
    let jumpy = tails(&[3100.0, 165.0, 2900.0, 160.0, 3300.0, 2500.0, 170.0]);
    let found = compare(&calm, &jumpy, THRESHOLD);
    assert!(found.regressions.is_empty() && found.untold.len() == 1, "{found}");
}

#[test]
fn a_slower_machine_moves_values_and_is_named_instead() {
    let on = |speed: f64| {
        let mut report = report(3, 1.0, 0.0);
        report.figures.iter_mut().flat_map(|figure| &mut figure.values).for_each(|value| *value *= speed);
        report
    };
    let found = compare(&on(1.0), &on(1.5), THRESHOLD);
    assert!(found.regressions.is_empty(), "{found}");
    assert_eq!(found.warnings.len(), 1, "{found}");
}

#[test]
fn what_is_missing_and_another_machine_are_named() {
    let (old, mut new) = (report(1, 1.0, 0.0), report(1, 1.0, 0.0));
    new.figures.pop();
    new.profile = "quick".to_owned();
    new.environment.kernel = "7.0".to_owned();
    let found = compare(&old, &new, THRESHOLD);
    assert_eq!(found.missing, ["control plane: memory: heddle nft"]);
    let text = found.to_string();
    for expected in
        ["warning: the machines", "warning: the profiles differ: test before, quick now", "missing: control"]
    {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
}

/// Of `direct` and of a subject, whose ratios are these.
fn ratios(unit: &str, values: &[f64]) -> Report {
    let mut report = Report::new("test", Environment::default());
    let connection = |subject| Figure::new(Part::DataPlane, "new connection", subject);
    report.add(connection("direct").less(unit, &vec![1.0; values.len()]));
    report.add(connection("heddle nft").less(unit, values));
    report
}

const CALM: [f64; 9] = [1.20, 1.21, 1.19, 1.20, 1.22, 1.18, 1.21, 1.20, 1.19];
const WILD: [f64; 9] = [1.20, 1.60, 0.90, 1.40, 1.10, 1.80, 1.00, 1.20, 1.30];

#[test]
fn noise_that_could_hide_a_change_of_cpu_time_is_no_success() {
    let answer = |old: &Report, new: &Report| compare(old, new, THRESHOLD).answer();
    let [calm, wild] = [CALM, WILD].map(|values| ratios("µs of CPU", &values));
    assert_eq!(answer(&calm, &calm), Answer::NotWorse);
    assert_eq!((answer(&calm, &wild), answer(&wild, &calm)), (Answer::Untold, Answer::Untold));
    let slow = ratios("µs of CPU", &CALM.map(|value| 1.2 * value));
    assert_eq!((answer(&calm, &slow), answer(&slow, &calm)), (Answer::Worse, Answer::NotWorse));
    assert_eq!(answer(&wild, &ratios("µs of CPU", &WILD.map(|value| 9.0 * value))), Answer::Worse);
}

#[test]
fn times_by_the_clock_may_be_noisy_beside_cpu_time_and_have_to_move_farther() {
    let with_clock = |values: &[f64]| {
        let mut report = ratios("µs of CPU", &CALM);
        report.figures.extend(ratios("µs", values).figures);
        report
    };
    let answer = |values: &[f64]| compare(&with_clock(&CALM), &with_clock(values), THRESHOLD).answer();
    let times = |times: f64| answer(&CALM.map(|value| times * value));
    assert_eq!((answer(&WILD), times(1.1), times(1.2)), (Answer::NotWorse, Answer::NotWorse, Answer::Worse));
}

#[test]
fn too_few_rounds_and_nothing_in_common_are_no_success() {
    let few = ratios("µs of CPU", &CALM[..3]);
    let found = compare(&few, &few, THRESHOLD);
    assert_eq!((found.answer(), found.blurred[0].why), (Answer::Untold, Why::Few));
    assert!(
        found.to_string().contains("noisy: data plane: new connection: heddle nft: too few rounds"),
        "{found}"
    );
    let other = Report::new("test", Environment::default());
    assert_eq!(compare(&few, &other, THRESHOLD).answer(), Answer::Untold);
}

#[test]
fn a_report_is_clear_once_medians_of_cpu_time_are_known() {
    let [calm, wild] = [CALM, WILD].map(|values| ratios("µs of CPU", &values));
    assert!(is_clear(&calm, 0.025) && !is_clear(&wild, 0.025));
    assert!(is_clear(&ratios("µs", &WILD), 0.025), "the clock is not asked");
    assert!(!is_clear(&ratios("µs of CPU", &CALM[..3]), 0.025), "three rounds say nothing");
}

#[test]
fn a_handicap_of_either_report_is_a_warning() {
    let (old, mut new) = (report(1, 1.0, 0.0), report(1, 1.0, 0.0));
    new.handicaps.insert("heddle nft".to_owned(), 400);
    let found = compare(&old, &new, THRESHOLD);
    assert_eq!(found.warnings, ["the newer report gave heddle nft 400 rules more"]);
}

#[test]
fn a_ratio_is_judged_by_what_its_own_base_moved() {
    let on = |speed: f64, tails: f64, times: f64| {
        let mut report = ratios("µs of CPU", &CALM.map(|value| times * value));
        report.figures.iter_mut().flat_map(|figure| &mut figure.values).for_each(|value| *value *= speed);
        for workload in ["p90", "p99"] {
            report.add(Figure::new(Part::DataPlane, workload, "direct").less("µs", &[tails; 9]));
        }
        report
    };
    let answer = |new: &Report| compare(&on(1.0, 1.0, 1.0), new, THRESHOLD).answer();
    assert_eq!(answer(&on(1.0, 5.0, 1.2)), Answer::Worse, "tails of others say nothing of it");
    assert_eq!(answer(&on(1.26, 1.0, 1.075)), Answer::Untold, "a busy neighbour may do that");
    assert_eq!(answer(&on(1.26, 1.0, 1.2)), Answer::Worse);
}
