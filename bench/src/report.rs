//! A report: the figures of one run, where they were measured, and what must hold of them.
//!
//! | module | what it is |
//! |---|---|
//! | [`environment`] | the machine and the programs |
//! | [`json`] | the report as a file, written and read back |
//! | `table` | the report on a terminal |
//!
//! Invariant: what is said of figures (medians, ratios, noise, verdicts) is derived when somebody asks, so that a saved
//! report says what it said when it was made.

pub mod environment;
pub mod json;
mod table;

pub use environment::Environment;
pub use table::{range, short};

use crate::figure::{Better, Figure};
use crate::stats::{Bound, Spread, Verdict, ratios};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What must hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// Of what: `bulk TCP: heddle nft, 1 × 3 / direct`.
    pub what: String,
    /// In what; `×` for a ratio.
    pub unit: String,
    /// What was found.
    pub spread: Spread,
    /// What it must be.
    pub must: Bound,
}

/// Everything that one run found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Version of the file's shape.
    pub schema: u32,
    /// How much was measured: `quick`, `full`.
    pub profile: String,
    /// Where.
    pub environment: Environment,
    /// It ended early, by a signal or a failure: figures may have fewer rounds than others, or be missing.
    #[serde(default)]
    pub interrupted: bool,
    /// Subjects that were made slower on purpose, with the rules that each of their packets goes through besides.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub handicaps: BTreeMap<String, u32>,
    /// What was measured, in the order of the run.
    pub figures: Vec<Figure>,
    /// What must hold of it.
    pub claims: Vec<Claim>,
}

impl Claim {
    /// Of what was found; none when nothing was.
    pub fn new(what: &str, unit: &str, found: &[f64], must: Bound) -> Option<Self> {
        let spread = Spread::of(found)?;
        Some(Self { what: what.to_owned(), unit: unit.to_owned(), spread, must })
    }

    /// Of the ratios of two figures of one workload, round by round.
    pub fn ratio(this: &Figure, to: &Figure, must: Bound) -> Option<Self> {
        let what = format!("{}: {} / {}", this.workload, this.who(), to.who());
        Self::new(&what, "×", &ratios(&this.values, &to.values), must)
    }

    /// Of how much one does by what the other does in the same time, round by round.
    pub fn rates(this: &Figure, to: &Figure, must: Bound) -> Option<Self> {
        let (over, under) = if this.better == Better::More { (this, to) } else { (to, this) };
        let what = format!("rate of {}: {} / {}", this.workload, this.who(), to.who());
        Self::new(&what, "×", &ratios(&over.values, &under.values), must)
    }

    /// Whether it holds.
    pub fn verdict(&self) -> Verdict {
        self.must.judge(&self.spread)
    }
}

impl Report {
    /// Nothing yet.
    pub fn new(profile: &str, environment: Environment) -> Self {
        let (figures, claims) = (Vec::new(), Vec::new());
        Self {
            schema: json::SCHEMA,
            profile: profile.to_owned(),
            environment,
            interrupted: false,
            handicaps: BTreeMap::new(),
            figures,
            claims,
        }
    }

    /// What somebody must know before any number: a word, and the rest of a sentence.
    pub fn cautions(&self) -> Vec<(&'static str, String)> {
        let early =
            self.interrupted.then(|| ("Interrupted", "not all rounds, or not all subjects".to_owned()));
        let slowed = self.handicaps.iter().map(|(subject, rules)| {
            ("Handicap", format!("{subject} was made slower on purpose, by {rules} rules for each packet"))
        });
        early.into_iter().chain(slowed).collect()
    }

    /// Adds a figure.
    pub fn add(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// Adds what must hold, if there is something.
    pub fn claim(&mut self, claim: Option<Claim>) {
        self.claims.extend(claim);
    }

    /// The figures by part, workload and unit, each in the order in which it first came.
    pub fn groups(&self) -> Vec<Vec<&Figure>> {
        let mut parts: Vec<Vec<Vec<&Figure>>> = Vec::new();
        for figure in &self.figures {
            match parts.iter_mut().find(|groups| groups[0][0].part == figure.part) {
                None => parts.push(vec![vec![figure]]),
                Some(groups) => match groups.iter_mut().find(|group| group[0].is_like(figure)) {
                    None => groups.push(vec![figure]),
                    Some(group) => group.push(figure),
                },
            }
        }
        parts.concat()
    }

    /// The figure that one is compared with: of the base subject of its part, under the same workload, at the same size or at
    /// none.
    pub fn base(&self, of: &Figure) -> Option<&Figure> {
        let base = of.part.base().filter(|base| *base != of.subject)?;
        let like = |size| {
            let is = |figure: &&Figure| figure.subject == base && figure.is_like(of) && figure.size == size;
            self.figures.iter().find(is)
        };
        like(of.size).or_else(|| like(None))
    }

    /// Its values by the base's, round by round; none of a distribution, or where there is no base.
    pub fn ratios(&self, of: &Figure) -> Option<Vec<f64>> {
        let base = self.base(of).filter(|base| base.rounds && of.rounds)?;
        Some(ratios(&of.values, &base.values))
    }

    /// Whether its rounds lie too far apart to tell.
    pub fn is_noisy(&self, figure: &Figure) -> bool {
        figure.is_noisy(self.ratios(figure).as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Size;
    use crate::figure::Part;

    fn report() -> Report {
        let connection = |subject| Figure::new(Part::DataPlane, "new connection", subject);
        let mut report = Report::new("test", Environment::default());
        report.add(connection("direct").less("µs", &[10.0, 20.0]));
        report.add(connection("heddle nft").at(Size::from((1, 3))).less("µs", &[11.0, 22.0]));
        report.add(Figure::new(Part::DataPlane, "bulk TCP", "direct").more("Gbit/s", &[1.0]));
        report
    }

    #[test]
    fn a_figure_is_compared_with_the_base_of_its_own_workload_round_by_round() {
        let report = report();
        assert_eq!(report.ratios(&report.figures[1]), Some(vec![1.1, 1.1]));
        assert_eq!(report.ratios(&report.figures[0]), None, "the base itself");
    }

    #[test]
    fn a_base_of_the_same_size_is_nearer_than_one_of_none() {
        let mut report = report();
        let sized = Figure::new(Part::DataPlane, "new connection", "direct").at(Size::from((1, 3)));
        report.add(sized.less("µs", &[5.5, 5.5]));
        assert_eq!(report.ratios(&report.figures[1]), Some(vec![2.0, 4.0]));
    }

    #[test]
    fn figures_of_one_workload_stand_together_whenever_they_were_measured() {
        let mut report = report();
        report.add(Figure::new(Part::ControlPlane, "start", "heddle nft").less("s", &[1.0]));
        report.add(Figure::new(Part::DataPlane, "bulk TCP", "heddle nft").more("Gbit/s", &[1.0]));
        let groups = report.groups();
        let found: Vec<_> = groups.iter().map(|group| (group[0].workload.as_str(), group.len())).collect();
        assert_eq!(found, [("new connection", 2), ("bulk TCP", 2), ("start", 1)]);
    }

    #[test]
    fn a_claim_of_nothing_is_none() {
        assert_eq!(Claim::new("a", "ms", &[f64::NAN], Bound::AtMost(1.0)), None);
        let report = report();
        let claim = Claim::ratio(&report.figures[1], &report.figures[0], Bound::AtMost(1.2)).unwrap();
        assert_eq!(
            (claim.what.as_str(), claim.verdict()),
            ("new connection: heddle nft, 1 × 3 / direct", Verdict::Held)
        );
    }
}
