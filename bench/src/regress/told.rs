//! A comparison in words: a line for each thing, and the answer last.

use super::{Change, Comparison};
use crate::report::short;
use std::fmt;

/// More figures that cannot be told are counted.
const MOST: usize = 8;

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = (short(self.before), short(self.after));
        let (share, word) = if self.worse > 0.0 { (self.worse, "worse") } else { (-self.worse, "better") };
        write!(f, "{}: {before} → {after} {}, {:.1} % {word}", self.what, self.unit, share * 100.0)?;
        match self.chance {
            Some(chance) => write!(f, " (by chance: {chance:.0e})"),
            None => write!(f, " (too few or too noisy to say how often by chance)"),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.warnings.iter().try_for_each(|warning| writeln!(f, "warning: {warning}"))?;
        self.regressions.iter().try_for_each(|change| writeln!(f, "regression: {change}"))?;
        self.improvements.iter().try_for_each(|change| writeln!(f, "improvement: {change}"))?;
        // Where values overlap there may be hundreds, which say nothing but how noisy the machine was.
        let mut apart = self.untold.iter().filter(|change| change.apart);
        apart.try_for_each(|change| writeln!(f, "unsure: {change}"))?;
        self.blurred.iter().take(MOST).try_for_each(|blur| writeln!(f, "noisy: {blur}"))?;
        if let Some(more @ 1..) = self.blurred.len().checked_sub(MOST) {
            writeln!(f, "noisy: {more} more")?;
        }
        self.missing.iter().try_for_each(|what| writeln!(f, "missing: {what}"))?;
        let (worse, better, untold) = (self.regressions.len(), self.improvements.len(), self.untold.len());
        let (compared, missing) = (self.compared, self.missing.len());
        writeln!(
            f,
            "{compared} figures compared: {worse} worse, {better} better, {untold} moved without proof, {missing} missing"
        )?;
        writeln!(f, "answer: {}", self.answer())
    }
}
