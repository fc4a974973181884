//! Lengths of time in Go's notation, `1h30m` or `250ms`, as Kubernetes' files and flags have them.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt::{self, Write};
use std::str::FromStr;
use std::time::Duration;

/// The units, the longest first, in nanoseconds.
const UNITS: [(&str, i64); 8] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ns", 1),
];

/// A length of time, in nanoseconds; it may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(i64);

impl GoDuration {
    /// So many seconds.
    pub const fn seconds(seconds: i64) -> Self {
        Self(seconds * 1_000_000_000)
    }

    /// So many nanoseconds.
    pub const fn nanoseconds(nanoseconds: i64) -> Self {
        Self(nanoseconds)
    }

    /// Whole seconds, cut off towards zero.
    pub const fn as_seconds(self) -> i64 {
        self.0 / 1_000_000_000
    }

    /// The same, and zero for a negative one.
    pub fn as_duration(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or_default())
    }
}

/// The text is no length of time.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no duration such as 30s, 1h30m or 250ms")]
pub struct DurationError(String);

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let wrong = || DurationError(text.to_owned());
        let (sign, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Ok(Self(0));
        }
        if rest.is_empty() {
            return Err(wrong());
        }
        let mut sum = 0_i64;
        while !rest.is_empty() {
            let (part, after) = first_part(rest).ok_or_else(wrong)?;
            sum = sum.checked_add(part).ok_or_else(wrong)?;
            rest = after;
        }
        Ok(Self(sign * sum))
    }
}

/// The nanoseconds of the first number with its unit, and what comes after it.
fn first_part(text: &str) -> Option<(i64, &str)> {
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (whole, rest) = text.split_at(digits(text));
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let (name, rest) =
        rest.split_at(rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len()));
    let (_, unit) = UNITS.into_iter().find(|(unit, _)| *unit == name)?;
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // What is finer than a nanosecond of the finest unit is cut off, as Go does.
    let fraction = fraction.get(..fraction.len().min(15))?;
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let parts: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let part = i64::try_from(parts * i128::from(unit) / scale).ok()?;
    Some((whole.checked_mul(unit)?.checked_add(part)?, rest))
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 0 {
            f.write_char('-')?;
        }
        let mut rest = self.0.unsigned_abs();
        if rest < 1_000_000_000 {
            return match rest {
                0 => f.write_str("0s"),
                1..1_000 => write!(f, "{rest}ns"),
                1_000..1_000_000 => decimal(f, rest, 1_000).and_then(|()| f.write_str("µs")),
                _ => decimal(f, rest, 1_000_000).and_then(|()| f.write_str("ms")),
            };
        }
        let (hour, minute) = (3_600_000_000_000, 60_000_000_000);
        if rest >= hour {
            write!(f, "{}h", rest / hour)?;
        }
        if rest >= minute {
            write!(f, "{}m", rest % hour / minute)?;
        }
        rest %= minute;
        decimal(f, rest, 1_000_000_000)?;
        f.write_char('s')
    }
}

/// A number of units, with the fraction that is needed.
fn decimal(f: &mut fmt::Formatter<'_>, value: u64, unit: u64) -> fmt::Result {
    write!(f, "{}", value / unit)?;
    let digits = unit.ilog10() as usize;
    let fraction = format!("{:0digits$}", value % unit);
    match fraction.trim_end_matches('0') {
        "" => Ok(()),
        fraction => write!(f, ".{fraction}"),
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_go_prints_is_read_and_printed_alike() {
        for text in
            ["0s", "1ns", "1.5µs", "250ms", "1s", "1.5s", "30s", "15m0s", "1h0m0s", "24h0m0s", "-2m0.05s"]
        {
            assert_eq!(text.parse::<GoDuration>().unwrap().to_string(), text);
        }
        let printed = |text: &str| text.parse::<GoDuration>().unwrap().to_string();
        assert_eq!(printed("90m"), "1h30m0s");
        assert_eq!(printed("+.5h1us"), "30m0.000001s");
        assert_eq!(printed("-0"), "0s");
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in ["", "-", "3", "1 h", "h", "1d", ".s", "1h-2m", "9999999h", "1.2.3s"] {
            assert_eq!(text.parse::<GoDuration>(), Err(DurationError(text.to_owned())), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_length_is_read_back_from_its_text(nanoseconds in -i64::MAX..i64::MAX) {
            let duration = GoDuration::nanoseconds(nanoseconds);
            prop_assert_eq!(duration.to_string().parse::<GoDuration>(), Ok(duration));
        }
    }
}
