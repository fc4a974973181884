//! Whether a report is worse than an older one, figure by figure.
//!
//! It is not a judgement of what must hold (those are claims), and it does not know what a commit changed. A figure is worse when two things
//! hold: its median moved by more than the threshold, and chance alone gives a figure like that less than once in a hundred
//! comparisons of whole reports ([`rank`]). What others are compared with (`direct`, the load generator) is the yardstick:
//! when it moved, the machine did. Invariant: the same two reports give the same answer.
//!
//! | module | what it is |
//! |---|---|
//! | [`rank`] | how often chance gives two samples like these |
//! | [`answer`] | what a comparison comes to |
//! | `told` | a comparison in words |

pub mod answer;
pub mod rank;
mod told;

pub use answer::{Answer, Blur, Why, is_clear};

use crate::cluster::Size;
use crate::figure::{Better, Figure, Part};
use crate::report::Report;
use crate::stats::{Spread, noise, permille};
use rank::{Samples, blocks, false_discoveries};

/// The threshold when nobody names another, as a share.
pub const THRESHOLD: f64 = 0.05;
/// How often all figures of two equal reports may give one that is worse.
const CHANCE: f64 = 0.01;
/// What is so many times as much, with no value among the others', is a change also where chance cannot be told: starts of programs
/// differ by a factor of two.
const FEW: f64 = 3.0;
/// The events of a distribution are those of one start of a process, and how far two starts lie apart nobody measured: a share that
/// is more than what was seen between two runs of the same programs, 63 % beside other work.
const START: f64 = 1.0;
/// How much of the machine's own move a ratio lets through, by that of its base beyond [`STEADY`]: what needs more of the caches minds a busy
/// neighbour more. Two runs of the same programs, of which other work slowed down one by 26 %, had ratios 7.5 % apart.
const LEAK: f64 = 0.25;
/// So far a base moves of itself, and ratios stay: of 137 pairs of runs whose bases were up to 15 % apart, none had ratios more than 3.8 % apart.
const STEADY: f64 = 0.15;
/// How many times the threshold it takes where connections are timed by the clock, which minds other work, and CPU time stands beside it: of a
/// hundred pairs of runs of the same programs two were 7.4 % and 10.5 % apart in that, and none in CPU time.
const CLOCK: f64 = 3.0;
/// A figure whose median may be off by more than this share is not asked, so that it does not make the others less sure.
const NOISIEST: f64 = 0.25;

/// How one figure moved.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Which figure.
    pub what: String,
    /// In what: the unit, or `× direct`.
    pub unit: String,
    /// The median before.
    pub before: f64,
    /// The median now.
    pub after: f64,
    /// How much worse it is, as a share of what was; negative where it is better.
    pub worse: f64,
    /// How often chance alone gives as much or more; `None` where values are too few or too noisy to say.
    pub chance: Option<f64>,
    /// No value before lies among those now.
    pub apart: bool,
}

/// Two reports, compared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Why the answer may mean less than it seems to.
    pub warnings: Vec<String>,
    /// What is worse.
    pub regressions: Vec<Change>,
    /// What is better.
    pub improvements: Vec<Change>,
    /// What moved by more than the threshold, while chance may do as much; those whose values do not overlap are printed.
    pub untold: Vec<Change>,
    /// What decides and cannot be told: a change by the threshold could hide in its noise.
    pub blurred: Vec<Blur>,
    /// What the older report has alone.
    pub missing: Vec<String>,
    /// How many figures have values enough, and near enough, to tell chance from a change.
    pub told: usize,
    /// How many figures both have.
    pub compared: usize,
}

/// What is compared of two figures.
struct Pair<'a> {
    old: &'a Figure,
    unit: String,
    samples: Samples,
    /// Of ratios, how far their base moved, as a share: that is the machine's own move where they were measured.
    base: Option<f64>,
}

/// Compares; `threshold` is a share.
pub fn compare(old: &Report, new: &Report, threshold: f64) -> Comparison {
    let mut found = Comparison { warnings: warnings(old, new), ..Comparison::default() };
    let mut pairs = Vec::new();
    for figure in old.figures.iter().filter(|figure| figure.spread().is_some()) {
        match new.figures.iter().find(|other| is_same(figure, other) && other.spread().is_some()) {
            None => found.missing.push(name(figure)),
            Some(other) => pairs.extend(Pair::of((old, figure), (new, other))),
        }
    }
    found.compared = pairs.len();
    let (yardsticks, judged): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|pair| is_yardstick(pair.old));
    let drift = drift(&yardsticks);
    if drift > threshold {
        let share = drift * 100.0;
        found
            .warnings
            .push(format!("the machine moved by {share:.1} %: values that are no ratios count from there"));
    }
    let changes: Vec<Option<Change>> = judged.iter().map(|pair| pair.change(threshold, drift)).collect();
    let chances = changes.iter().flatten().filter_map(|change| change.chance).collect();
    found.told = judged.iter().filter(|pair| pair.can_tell()).count();
    let level = false_discoveries(chances, found.told, CHANCE);
    for (pair, change) in judged.iter().zip(changes) {
        let is_sure = change.as_ref().is_some_and(|change| change.is_sure(level));
        found.blurred.extend(pair.blur(threshold).filter(|_| !is_sure));
        change.into_iter().for_each(|change| found.put(change, is_sure));
    }
    found
}

/// How far the machine moved, as a share: three quarters of what others are compared with moved no farther.
fn drift(yardsticks: &[Pair<'_>]) -> f64 {
    let far: Vec<f64> = yardsticks.iter().filter_map(|pair| Some(pair.moved()?.far())).collect();
    permille(&far, 750).map_or(0.0, |far| far - 1.0)
}

impl Pair<'_> {
    fn of<'a>(old: (&Report, &'a Figure), new: (&Report, &Figure)) -> Option<Pair<'a>> {
        let ratios = old.0.ratios(old.1).zip(new.0.ratios(new.1));
        let median = |of: (&Report, &Figure)| Some(of.0.base(of.1)?.spread()?.median);
        let base = ratios.as_ref().and_then(|_| Some(times(median(old)?, median(new)?) - 1.0));
        let name = old.1.part.base().unwrap_or_default();
        let unit = if ratios.is_some() { format!("× {name}") } else { old.1.unit.clone() };
        let (before, after) = ratios.unwrap_or_else(|| (old.1.values.clone(), new.1.values.clone()));
        // Shares of a median that is nothing, or less, mean nothing.
        let is_positive = |values: &[f64]| permille(values, 500).is_some_and(|median| median > 0.0);
        let samples = Samples { before: blocks(&before), after: blocks(&after) };
        (is_positive(&before) && is_positive(&after)).then_some(Pair { old: old.1, unit, samples, base })
    }

    /// Whether its values are enough, and near enough to each other, to tell chance from a change.
    fn can_tell(&self) -> bool {
        let Samples { before, after } = &self.samples;
        let is_near = |values: &[f64]| noise(values).is_none_or(|noise| noise <= NOISIEST);
        self.samples.can_tell(CHANCE) && is_near(before) && is_near(after)
    }

    fn moved(&self) -> Option<Change> {
        let (old, new) = (Spread::of(&self.samples.before)?, Spread::of(&self.samples.after)?);
        let (before, after) = (old.median, new.median);
        let worse = match self.old.better {
            Better::Less => after / before - 1.0,
            Better::More => before / after - 1.0,
        };
        let apart = old.max < new.min || new.max < old.min;
        Some(Change {
            what: name(self.old),
            unit: self.unit.clone(),
            before,
            after,
            worse,
            chance: None,
            apart,
        })
    }

    /// How it moved, if that is by more than the threshold beyond what the machine did, or of a ratio, beyond what that
    /// lets through.
    fn change(&self, threshold: f64, drift: f64) -> Option<Change> {
        let by_clock = self.old.part == Part::DataPlane && !self.old.is_of_cpu();
        let threshold = if by_clock { CLOCK * threshold } else { threshold };
        let by_machine = self.base.map_or(drift, |moved| (moved - STEADY).max(0.0) * LEAK);
        let limit = (1.0 + threshold) * (1.0 + by_machine) - 1.0;
        let limit = if self.old.rounds { limit } else { limit.max(START) };
        let change = self.moved().filter(|change| change.far() > 1.0 + limit)?;
        Some(Change { chance: self.can_tell().then(|| self.samples.chance()), ..change })
    }
}

impl Change {
    /// How many times as much it is, or as little: twice as fast is as far as half as fast.
    fn far(&self) -> f64 {
        times(1.0, 1.0 + self.worse)
    }

    /// Whether chance gives it no more often than `level`.
    fn is_sure(&self, level: f64) -> bool {
        let is_plain = self.apart && self.far() > FEW;
        is_plain || self.chance.is_some_and(|chance| chance <= level)
    }
}

impl Comparison {
    fn put(&mut self, change: Change, is_sure: bool) {
        match (is_sure, change.worse > 0.0) {
            (false, _) => self.untold.push(change),
            (true, true) => self.regressions.push(change),
            (true, false) => self.improvements.push(change),
        }
    }
}

/// How many times as much one is as the other, whichever is more.
fn times(this: f64, other: f64) -> f64 {
    (this / other).max(other / this)
}

fn is_yardstick(figure: &Figure) -> bool {
    figure.part == Part::Generator || figure.part.base() == Some(figure.subject.as_str())
}

fn is_same(this: &Figure, other: &Figure) -> bool {
    let who = |of: &Figure| -> (String, Option<Size>, bool) { (of.subject.clone(), of.size, of.rounds) };
    this.is_like(other) && who(this) == who(other)
}

fn name(figure: &Figure) -> String {
    format!("{}: {}: {}", figure.part, figure.workload, figure.who())
}

fn warnings(old: &Report, new: &Report) -> Vec<String> {
    let mut found = Vec::new();
    if !old.environment.is_like(&new.environment) {
        found.push("the machines or their kernels differ: only ratios can be compared".to_owned());
    }
    if old.profile != new.profile {
        found.push(format!("the profiles differ: {} before, {} now", old.profile, new.profile));
    }
    if old.interrupted || new.interrupted {
        found.push("a run was interrupted: figures may be missing, or have fewer rounds".to_owned());
    }
    for (report, which) in [(old, "older"), (new, "newer")] {
        let slowed = report.handicaps.iter();
        found.extend(slowed.map(|(who, rules)| format!("the {which} report gave {who} {rules} rules more")));
    }
    found
}

#[cfg(test)]
mod tests;
