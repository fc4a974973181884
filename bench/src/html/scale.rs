//! Numbers to places on a page, and where the ticks of an axis stand.

/// From a range of numbers to a range of places.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    is_log: bool,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// From nothing (or the least, where that is less) to at least the greatest.
    pub(super) fn linear(least: f64, greatest: f64, (from, to): (f64, f64)) -> Self {
        let (low, high) = (least.min(0.0), greatest.max(least.min(0.0) + f64::MIN_POSITIVE.sqrt()));
        let step = step(low, high);
        Self { is_log: false, low: (low / step).floor() * step, high: (high / step).ceil() * step, from, to }
    }

    /// From the least to the greatest, both greater than nothing, with some room; equal steps are equal ratios.
    pub(super) fn log(least: f64, greatest: f64, (from, to): (f64, f64)) -> Self {
        let room = if greatest / least > 1.5 { (greatest / least).powf(0.05) } else { 1.5 };
        Self { is_log: true, low: least / room, high: greatest * room, from, to }
    }

    /// Where a number stands.
    pub(super) fn place(&self, value: f64) -> f64 {
        let share = if self.is_log {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + share * (self.to - self.from)
    }

    /// The numbers that have a tick, in order: no more than seven.
    pub(super) fn ticks(&self) -> Vec<f64> {
        if !self.is_log {
            let step = step(self.low, self.high);
            let count = ((self.high - self.low) / step).round();
            return (0..8).map(f64::from).filter(|at| *at <= count).map(|at| self.low + at * step).collect();
        }
        let decades = || (-12..13).map(|power| 10_f64.powi(power));
        let within = |value: &f64| (self.low..=self.high).contains(value);
        let whole: Vec<f64> = decades().filter(within).collect();
        if whole.len() >= 3 {
            let every = whole.len().div_ceil(7);
            return whole.into_iter().step_by(every).collect();
        }
        let parts = decades()
            .flat_map(|decade| [decade, 2.0 * decade, 5.0 * decade])
            .filter(within)
            .collect::<Vec<_>>();
        if parts.is_empty() { vec![self.low, self.high] } else { parts }
    }
}

/// The distance of ticks: one, two or five of some power of ten, so that there are five to seven.
fn step(low: f64, high: f64) -> f64 {
    let rough = (high - low) / 5.0;
    let decade = 10_f64.powf(rough.log10().floor());
    let times = [1.0, 2.0, 5.0].into_iter().find(|times| times * decade >= rough * 0.999).unwrap_or(10.0);
    times * decade
}

/// A tick's number, in groups of three digits.
pub(super) fn label(value: f64) -> String {
    let size = value.abs();
    let decimals =
        [(1.0, 3), (10.0, 2), (100.0, 1)].iter().find(|(below, _)| size < *below).map_or(0, |it| it.1);
    let text = match size {
        0.0 => "0".to_owned(),
        size if size < 0.001 => format!("{value:.0e}"),
        _ => format!("{value:.decimals$}"),
    };
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    grouped(text)
}

/// A count's number where there is little room: `30k`.
pub(super) fn count(value: f64) -> String {
    if value >= 1000.0 && value % 100.0 == 0.0 { format!("{}k", label(value / 1000.0)) } else { label(value) }
}

/// The digits of a whole number in groups of three, with a narrow space that does not break.
pub(super) fn grouped(text: &str) -> String {
    let digits = text.trim_start_matches('-');
    if digits.len() < 4 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.to_owned();
    }
    let mut grouped = text[..text.len() - digits.len()].to_owned();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(scale: &Scale) -> Vec<String> {
        scale.ticks().into_iter().map(label).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(labels(&Scale::linear(3.0, 47.0, (0.0, 100.0))), ["0", "10", "20", "30", "40", "50"]);
        assert_eq!(labels(&Scale::linear(0.0, 0.9, (0.0, 100.0))), ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        assert_eq!(labels(&Scale::log(0.03, 30.0, (0.0, 100.0))), ["0.1", "1", "10"]);
        assert_eq!(labels(&Scale::log(0.3, 0.9, (0.0, 100.0))), ["0.5"]);
    }

    #[test]
    fn an_axis_may_be_upside_down_and_below_nothing() {
        let scale = Scale::linear(-4.0, 8.0, (200.0, 0.0));
        assert!(scale.place(8.0) < scale.place(-4.0) && scale.place(-4.0) <= 200.0);
    }

    #[test]
    fn large_numbers_are_grouped() {
        assert_eq!((label(30_000.0).as_str(), label(999.0).as_str()), ("30\u{202f}000", "999"));
        assert_eq!(
            (label(0.25).as_str(), label(1.5).as_str(), label(-2000.0).as_str()),
            ("0.25", "1.5", "-2\u{202f}000")
        );
    }

    proptest! {
        #[test]
        fn every_value_is_inside_and_ticks_are_few_and_in_order(least in 1e-6..1e6_f64, times in 1.0..1e6_f64) {
            let greatest = least * times;
            for scale in [Scale::linear(least, greatest, (0.0, 100.0)), Scale::log(least, greatest, (0.0, 100.0))] {
                let ticks = scale.ticks();
                prop_assert!((1..=8).contains(&ticks.len()) && ticks.is_sorted(), "{ticks:?} of {scale:?}");
                for value in [least, greatest] {
                    prop_assert!((-0.01..=100.01).contains(&scale.place(value)), "{value} in {scale:?}");
                }
            }
        }
    }
}
