//! How figures grow with the number of Services, or of endpoints: which of them make a line.
//!
//! A line varies one number alone. Where a run varies both, the line over the one keeps to the most frequent value of the other.

use super::scale::{Scale, grouped};
use super::series::{Cast, Series};
use crate::cluster::Size;
use crate::figure::Figure;
use crate::stats::Spread;
use std::collections::BTreeMap;

/// Between ticks there must be room for their labels.
const ROOM: f64 = 24.0;

/// What a line goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Services,
    Endpoints,
}

/// A figure on a line.
pub(super) struct Point {
    pub(super) at: u32,
    pub(super) size: Size,
    pub(super) spread: Spread,
}

impl Over {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Services => "Services",
            Self::Endpoints => "endpoints of each Service",
        }
    }

    fn of(self, size: Size) -> u32 {
        if self == Self::Services { size.services } else { size.endpoints }
    }

    fn other(self, size: Size) -> u32 {
        if self == Self::Services { size.endpoints } else { size.services }
    }

    /// A line for each subject, from left to right.
    pub(super) fn lines(self, group: &[&Figure], cast: &Cast) -> Vec<Series<Point>> {
        let kept = self.kept(group);
        let mut lines: Vec<Series<Point>> = Vec::new();
        for figure in group {
            let Some((size, spread)) = figure.size.zip(figure.spread()) else { continue };
            if kept.is_some_and(|kept| kept != self.other(size)) {
                continue;
            }
            let point = Point { at: self.of(size), size, spread };
            match lines.iter_mut().find(|line| line.name == figure.subject) {
                Some(line) => line.points.push(point),
                None => {
                    let (name, look) = (figure.subject.clone(), cast.look(figure));
                    lines.push(Series { name, look, points: vec![point] });
                }
            }
        }
        lines.iter_mut().for_each(|line| line.points.sort_by_key(|point| point.at));
        lines
    }

    /// The value of the other number that all points of the plot have. Over Services it may differ, as long as no subject has two figures
    /// at one number: then there is none.
    fn kept(self, group: &[&Figure]) -> Option<u32> {
        let sizes = || group.iter().filter_map(|figure| Some((&figure.subject, figure.size?)));
        let is_beside = |(subject, size): (&String, Size)| {
            sizes().any(|(of, it)| of == subject && self.of(it) == self.of(size) && it != size)
        };
        if self == Self::Services && !sizes().any(is_beside) {
            return None;
        }
        let mut numbers: BTreeMap<u32, usize> = BTreeMap::new();
        sizes().for_each(|(_, size)| *numbers.entry(self.other(size)).or_default() += 1);
        let most = numbers.values().copied().max()?;
        numbers.into_iter().find(|(_, count)| *count == most).map(|(number, _)| number)
    }

    /// The caption, with the number that is the same everywhere.
    pub(super) fn caption(self, group: &[&Figure]) -> String {
        let same = self.kept(group).map(|kept| match self {
            Self::Services => format!(", each with {}", number_of(kept, "endpoint")),
            Self::Endpoints => format!(", at {}", number_of(kept, "Service")),
        });
        format!("Median by number of {}{}, with min to max", self.name(), same.unwrap_or_default())
    }
}

fn number_of(count: u32, thing: &str) -> String {
    format!("{} {thing}{}", grouped(&count.to_string()), if count == 1 { "" } else { "s" })
}

/// The scale from left to right, and the numbers that have a tick: each that was measured, as far as there is room.
pub(super) fn across(lines: &[Series<Point>], places: (f64, f64)) -> (Scale, Vec<f64>) {
    let mut numbers: Vec<u32> =
        lines.iter().flat_map(|line| &line.points).map(|point| point.at.max(1)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let numbers: Vec<f64> = numbers.into_iter().map(f64::from).collect();
    let ends = (numbers.first().copied().unwrap_or(1.0), numbers.last().copied().unwrap_or(1.0));
    let scale = Scale::log(ends.0, ends.1, places);
    let mut ticks: Vec<f64> = Vec::new();
    for number in numbers {
        if ticks.last().is_none_or(|last| scale.place(number) - scale.place(*last) > ROOM) {
            ticks.push(number);
        }
    }
    (scale, ticks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Part;
    use crate::report::{Environment, Report};

    fn points(over: Over, sizes: &[(u32, u32)]) -> Vec<u32> {
        let figure = |size: &(u32, u32)| {
            Figure::new(Part::DataPlane, "w", "heddle").at(Size::from(*size)).less("ms", &[1.0])
        };
        let figures: Vec<Figure> = sizes.iter().map(figure).collect();
        let cast = Cast::of(&Report::new("test", Environment::default()));
        let lines = over.lines(&figures.iter().collect::<Vec<_>>(), &cast);
        lines.iter().flat_map(|line| &line.points).map(|point| point.at).collect()
    }

    #[test]
    fn endpoints_may_differ_between_numbers_of_services() {
        assert_eq!(points(Over::Services, &[(30_000, 4), (1, 3), (1_000, 3)]), [1, 1_000, 30_000]);
        assert_eq!(points(Over::Endpoints, &[(30_000, 4), (1, 3), (1_000, 3)]), [3]);
    }

    #[test]
    fn where_both_vary_a_line_keeps_to_one_number_of_the_other() {
        let sizes = [(1, 3), (1_000, 3), (1, 100), (1, 1_000)];
        assert_eq!(points(Over::Services, &sizes), [1, 1_000]);
        assert_eq!(points(Over::Endpoints, &sizes), [3, 100, 1_000]);
    }
}
