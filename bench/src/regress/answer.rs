//! What a comparison comes to: worse, not worse, or too noisy to tell.
//!
//! Figures of CPU time decide: others have it beside them, and mind other work on the machine more. One of them is blurred when a change by
//! the threshold could hide in its noise. Invariant: whether one is blurred says nothing of the way in which it moved, but
//! for one that seems to be worse.

use super::rank::{Samples, blocks};
use super::{Comparison, Pair, is_yardstick, name};
use crate::figure::Figure;
use crate::report::Report;
use crate::stats::noise;
use std::fmt;

/// The code of a comparison that cannot tell: `git bisect run` passes over such a commit.
const UNTOLD: u8 = 125;

/// What a comparison comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing is worse, and it would have been seen.
    NotWorse,
    /// Something is.
    Worse,
    /// Nothing is that could be told, and not all could be.
    Untold,
}

/// A figure that decides, and cannot be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Blur {
    /// Which figure.
    pub what: String,
    /// Why not.
    pub why: Why,
}

/// Why a figure cannot be told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Why {
    /// There are too few rounds to say how far they lie apart.
    Few,
    /// How far its median moved may be off by this share, more than the threshold.
    Off(f64),
    /// It seems to be worse by this share, and chance or the machine may have done that.
    Seems(f64),
}

impl Answer {
    /// The code that the program ends with.
    pub fn code(self) -> u8 {
        match self {
            Self::NotWorse => 0,
            Self::Worse => 1,
            Self::Untold => UNTOLD,
        }
    }
}

impl Comparison {
    /// What it comes to.
    pub fn answer(&self) -> Answer {
        match (self.regressions.is_empty(), self.blurred.is_empty() && self.told > 0) {
            (false, _) => Answer::Worse,
            (true, true) => Answer::NotWorse,
            (true, false) => Answer::Untold,
        }
    }
}

impl Pair<'_> {
    /// Its blur, if it decides and is blurred.
    pub(super) fn blur(&self, threshold: f64) -> Option<Blur> {
        let Samples { before, after } = &self.samples;
        let off = noise(before).zip(noise(after)).map(|(before, after)| before.hypot(after));
        let worse = self.moved()?.worse;
        let why = match off {
            None => Why::Few,
            Some(off) if off > threshold => Why::Off(off),
            Some(_) if worse > threshold => Why::Seems(worse),
            Some(_) => return None,
        };
        // What is measured once is no matter of rounds.
        let decides = decides(self.old) && before.len() > 1 && after.len() > 1;
        decides.then(|| Blur { what: name(self.old), why })
    }
}

/// Whether no median that decides may be off by more than this share.
pub fn is_clear(report: &Report, share: f64) -> bool {
    let off = |figure: &Figure| noise(&blocks(report.ratios(figure).as_ref().unwrap_or(&figure.values)));
    let mut deciding = report.figures.iter().filter(|figure| decides(figure) && !is_yardstick(figure));
    deciding.all(|figure| off(figure).is_some_and(|off| off <= share))
}

fn decides(figure: &Figure) -> bool {
    figure.rounds && figure.is_of_cpu()
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotWorse => "nothing is worse",
            Self::Worse => "worse",
            Self::Untold => "too noisy to tell whether something is worse",
        })
    }
}

impl fmt::Display for Blur {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.what)?;
        match self.why {
            Why::Few => write!(f, "too few rounds"),
            Why::Off(share) => write!(f, "how far it moved may be off by {:.1} %", share * 100.0),
            Why::Seems(share) => write!(f, "seems {:.1} % worse, without proof", share * 100.0),
        }
    }
}
