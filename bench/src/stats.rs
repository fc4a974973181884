//! Medians, ratios, and whether a bound is held.
//!
//! A single run on a shared machine says little; what is said here of several says also how far they lie apart.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Several measurements of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// A quarter lies below this.
    pub lower: f64,
    /// A quarter lies above this.
    pub upper: f64,
    /// How many there are.
    pub count: usize,
}

/// With fewer rounds, how far they lie apart says nothing.
const ENOUGH: usize = 5;

impl Spread {
    /// Of all these; `None` of nothing.
    pub fn of(values: &[f64]) -> Option<Self> {
        Some(Self {
            median: permille(values, 500)?,
            min: permille(values, 0)?,
            max: permille(values, 1000)?,
            lower: permille(values, 250)?,
            upper: permille(values, 750)?,
            count: measured(values).count(),
        })
    }
}

/// The values that are finite: what could not be measured is not.
fn measured(values: &[f64]) -> impl Iterator<Item = f64> {
    values.iter().copied().filter(|value| value.is_finite())
}

/// How far the median may be off, as a share of it: half the notch that McGill, Tukey and Larsen draw into a box ("Variations of box
/// plots", 1978), beyond which two medians differ with 95 % confidence. `None` of too few.
pub fn noise(values: &[f64]) -> Option<f64> {
    let spread = Spread::of(values).filter(|spread| spread.count >= ENOUGH && spread.median != 0.0)?;
    let count = f64::from(u32::try_from(spread.count).ok()?);
    Some(1.57 * (spread.upper - spread.lower) / count.sqrt() / spread.median.abs())
}

/// The value that so many of a thousand do not exceed; `None` of nothing.
pub fn permille(values: &[f64], share: usize) -> Option<f64> {
    let mut sorted: Vec<f64> = measured(values).collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last * share.min(1000)).div_ceil(1000)).copied()
}

/// The ratios of what was measured in the same rounds.
pub fn ratios(these: &[f64], to: &[f64]) -> Vec<f64> {
    these.iter().zip(to).map(|(this, to)| this / to).collect()
}

/// What a figure must be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Bound {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

/// Whether it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// Three quarters of the measurements keep to the bound.
    Held,
    /// Three quarters do not.
    Missed,
    /// Neither: too noisy to tell.
    Noisy,
}

impl Bound {
    /// Whether it is held.
    pub fn judge(self, spread: &Spread) -> Verdict {
        let keeps = |value: f64| match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        };
        match (keeps(spread.lower), keeps(spread.upper)) {
            (true, true) => Verdict::Held,
            (false, false) => Verdict::Missed,
            _ => Verdict::Noisy,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(limit) => write!(f, "≤ {limit}"),
            Self::AtLeast(limit) => write!(f, "≥ {limit}"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Held => "held",
            Self::Missed => "missed",
            Self::Noisy => "noisy",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_in_order_whatever_the_order_of_the_measurements() {
        let spread = Spread::of(&[5.0, 1.0, 4.0, 2.0, 3.0]).unwrap();
        let found = [spread.min, spread.lower, spread.median, spread.upper, spread.max];
        assert_eq!(found, [1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn the_99th_percentile_of_few_is_the_greatest() {
        let values: Vec<f64> = (0..50).map(f64::from).collect();
        assert_eq!(permille(&values, 990), Some(49.0));
    }

    #[test]
    fn what_was_not_measured_does_not_count() {
        let spread = Spread::of(&[f64::NAN, 2.0, 4.0]).unwrap();
        assert_eq!((spread.median, spread.count), (4.0, 2));
        assert_eq!(Spread::of(&[f64::NAN]), None);
    }

    #[test]
    fn noise_falls_with_the_number_of_rounds_and_few_say_nothing() {
        let some: Vec<f64> = (0..9).map(|round| 10.0 + f64::from(round)).collect();
        let more: Vec<f64> = (0..36).map(|round| 10.0 + f64::from(round % 9)).collect();
        assert!(noise(&some).unwrap() > 1.5 * noise(&more).unwrap());
        assert_eq!(noise(&some[..4]), None);
    }

    #[test]
    fn a_bound_inside_the_quartiles_is_too_noisy_to_tell() {
        let spread = Spread::of(&[0.8, 0.9, 1.0, 1.1, 1.2]).unwrap();
        assert_eq!(Bound::AtMost(1.15).judge(&spread), Verdict::Held);
        assert_eq!(Bound::AtMost(1.0).judge(&spread), Verdict::Noisy);
        assert_eq!(Bound::AtMost(0.85).judge(&spread), Verdict::Missed);
        assert_eq!(Bound::AtLeast(0.85).judge(&spread), Verdict::Held);
        assert_eq!(Bound::AtLeast(1.15).judge(&spread), Verdict::Missed);
    }
}
