//! Figures: what was measured, of whom, how often.
//!
//! It is not what was made of them: medians, ratios and verdicts are derived from figures and stored nowhere. Invariant: values
//! stand in the order in which they were measured, so that those of two figures with the same place in it are of one round.

use crate::cluster::Size;
use crate::stats::{Spread, noise};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How far the median may be off, as a share of it, before a figure says that it is noisy.
pub const NOISY: f64 = 0.05;

/// Which part of the bench a figure is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The bench's own load, with nothing to measure in between: what no subject can exceed.
    Generator,
    /// What a connection or a packet costs.
    DataPlane,
    /// What a proxy takes to start, and to follow changes.
    ControlPlane,
    /// What a CNI plugin takes.
    Plugin,
}

/// Whether less or more of something is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Better {
    /// As of time and memory.
    Less,
    /// As of rates.
    More,
}

/// What was measured of one subject under one workload at one size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Figure {
    /// Where it is from.
    pub part: Part,
    /// What was done: `new connection`. Its figures share a unit.
    pub workload: String,
    /// To whom: `direct`, `heddle nft`. Neither size nor workload is part of the name.
    pub subject: String,
    /// How large the cluster was, where that matters.
    pub size: Option<Size>,
    /// The unit of all values.
    pub unit: String,
    /// Which values are better.
    pub better: Better,
    /// What came out, in order; what is not finite was not measured, and is `null` in JSON.
    #[serde(serialize_with = "write_values", deserialize_with = "read_values")]
    pub values: Vec<f64>,
    /// A value is one round's, and pairs with others' of that round. Otherwise each is one event's, and all together are a
    /// distribution.
    pub rounds: bool,
}

impl Figure {
    /// Of one subject under one workload, with nothing measured yet.
    pub fn new(part: Part, workload: &str, subject: &str) -> Self {
        Self {
            part,
            workload: workload.to_owned(),
            subject: subject.to_owned(),
            size: None,
            unit: String::new(),
            better: Better::Less,
            values: Vec::new(),
            rounds: true,
        }
    }

    /// The same, at a size.
    #[must_use]
    pub fn at(self, size: Size) -> Self {
        Self { size: Some(size), ..self }
    }

    /// The same, with values of which less are better, one a round.
    #[must_use]
    pub fn less(self, unit: &str, values: &[f64]) -> Self {
        Self { unit: unit.to_owned(), better: Better::Less, values: values.to_vec(), ..self }
    }

    /// The same, with values of which more are better, one a round.
    #[must_use]
    pub fn more(self, unit: &str, values: &[f64]) -> Self {
        Self { better: Better::More, ..self.less(unit, values) }
    }

    /// The same, whose values are one an event and none of a round.
    #[must_use]
    pub fn distribution(self) -> Self {
        Self { rounds: false, ..self }
    }

    /// Its median and how far the values lie apart; `None` when nothing was measured.
    pub fn spread(&self) -> Option<Spread> {
        Spread::of(&self.values)
    }

    /// Whether both measure the same thing: of one part and workload, in one unit.
    pub fn is_like(&self, other: &Self) -> bool {
        (self.part, &self.workload, &self.unit) == (other.part, &other.workload, &other.unit)
    }

    /// Whether it is CPU time, or a rate by it, which hardly minds what else the machine does.
    pub fn is_of_cpu(&self) -> bool {
        self.unit.ends_with("of CPU")
    }

    /// The subject with its size: `heddle nft, 20 × 3`.
    pub fn who(&self) -> String {
        self.size.map_or_else(|| self.subject.clone(), |size| format!("{}, {size}", self.subject))
    }

    /// Whether its rounds, or their `ratios` to another's where there are some, lie too far apart to tell more than an order of
    /// size. A distribution is never noisy: that its values differ is what was measured.
    pub fn is_noisy(&self, ratios: Option<&[f64]>) -> bool {
        self.rounds && noise(ratios.unwrap_or(&self.values)).is_some_and(|noise| noise > NOISY)
    }
}

impl Part {
    /// The subject that others of this part are compared with.
    pub fn base(self) -> Option<&'static str> {
        match self {
            Self::DataPlane => Some("direct"),
            Self::Plugin => Some("bridge + host-local"),
            Self::Generator | Self::ControlPlane => None,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Generator => "load generator",
            Self::DataPlane => "data plane",
            Self::ControlPlane => "control plane",
            Self::Plugin => "CNI plugin",
        })
    }
}

/// Nine digits: more than any clock has, and fewer than a reader loses.
fn write_values<S: serde::Serializer>(values: &[f64], to: S) -> Result<S::Ok, S::Error> {
    let rounded = |value: &f64| value.is_finite().then(|| format!("{value:.8e}").parse().unwrap_or(*value));
    to.collect_seq(values.iter().map(rounded))
}

fn read_values<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
    let values: Vec<Option<f64>> = Vec::deserialize(from)?;
    Ok(values.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_that_lie_far_apart_are_noisy_and_a_distribution_is_not() {
        let apart = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let figure = Figure::new(Part::DataPlane, "new connection", "direct").less("µs", &apart);
        assert!(figure.is_noisy(None) && !figure.is_noisy(Some(&[1.0; 6])));
        assert!(!figure.distribution().is_noisy(None));
    }

    #[test]
    fn what_was_not_measured_stays_in_its_place() {
        let figure = Figure::new(Part::Plugin, "ADD", "own").less("ms", &[1.0, f64::NAN, 3.000_000_000_4]);
        let json = serde_json::to_value(&figure).unwrap();
        assert_eq!(json["values"], serde_json::json!([1.0, null, 3.0]));
        let back: Figure = serde_json::from_value(json).unwrap();
        assert!(back.values[1].is_nan() && back.values.len() == 3);
    }
}
