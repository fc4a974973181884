//! The distribution of single events: which share of them took no longer than that.
//!
//! One subject alone has a line for each size; several have a plot for each size, with a line for each of them.

use super::frame::{Axis, Frame};
use super::framed;
use super::scale::{Scale, label};
use super::series::{Cast, Look, Series, legend};
use crate::cluster::Size;
use crate::figure::Figure;
use crate::report::short;
use crate::stats::permille;

/// Points of a line: more are not seen.
const POINTS: usize = 200;
/// With fewer events there is no distribution to see.
const ENOUGH: usize = 5;

/// The plots; nothing where nothing is a distribution.
pub(super) fn plot(group: &[&Figure], cast: &Cast, id: &str) -> String {
    let is_seen = |figure: &&&Figure| {
        !figure.rounds
            && figure.spread().is_some_and(|it| it.count >= ENOUGH && it.min > 0.0 && it.max > it.min)
    };
    let figures: Vec<&Figure> = group.iter().filter(is_seen).copied().collect();
    let is_alone = figures.windows(2).all(|pair| pair[0].subject == pair[1].subject);
    if is_alone {
        let count = figures.len();
        let line = |(at, figure): (usize, &&Figure)| series(figure, figure.who(), Look::step(at, count));
        return one(
            &figures.iter().enumerate().map(line).collect::<Vec<_>>(),
            group[0],
            "",
            &format!("{id}-shares"),
        );
    }
    let mut sizes: Vec<Option<Size>> = figures.iter().map(|figure| figure.size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let of = |(number, size): (usize, Option<Size>)| {
        let these = figures.iter().filter(|figure| figure.size == size);
        let lines: Vec<_> = these.map(|it| series(it, it.subject.clone(), cast.look(it))).collect();
        let at = size.map(|size| format!(", {size}")).unwrap_or_default();
        one(&lines, group[0], &at, &format!("{id}-shares-{number}"))
    };
    sizes.into_iter().enumerate().map(of).collect()
}

/// The values that so many of a thousand do not exceed, each with its share in per cent.
fn series(figure: &Figure, name: String, look: Look) -> Series<(f64, f64)> {
    let point = |at: usize| {
        let share = at * 1000 / POINTS;
        Some((permille(&figure.values, share)?, f64::from(u32::try_from(share).ok()?) / 10.0))
    };
    Series { name, look, points: (0..=POINTS).filter_map(point).collect() }
}

fn one(lines: &[Series<(f64, f64)>], head: &Figure, at: &str, id: &str) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let title = format!("{}: distribution{at}", head.workload);
    let description = "Which share of the events took no longer. The table beside the plots has medians and 99th percentiles.";
    let frame = Frame { id, title: &title, description, height: 260.0 };
    let values = || lines.iter().flat_map(|line| &line.points).map(|point| point.0);
    let x = Scale::log(values().fold(f64::MAX, f64::min), values().fold(0.0, f64::max), Frame::across());
    let y = Scale::linear(0.0, 100.0, frame.up());
    let unit = format!("{} (log scale)", head.unit);
    let mut contents =
        frame.rows(&Axis { scale: y, unit: "% of events", ticks: vec![0.0, 25.0, 50.0, 75.0, 100.0], label });
    contents += &frame.columns(&Axis { ticks: x.ticks(), scale: x, unit: &unit, label });
    lines.iter().for_each(|line| contents += &draw(line, (x, y), &head.unit));
    let caption = format!("Share of events that took no longer{}", super::escape(at));
    framed(
        &caption,
        &legend(lines.iter().map(|line| (line.name.as_str(), &line.look))),
        &frame.around(&contents),
    )
}

fn draw(line: &Series<(f64, f64)>, (x, y): (Scale, Scale), unit: &str) -> String {
    let places: Vec<String> = line
        .points
        .iter()
        .map(|(value, share)| format!("{:.1},{:.1}", x.place(*value), y.place(*share)))
        .collect();
    // At the median alone: a mark on each point would be a band.
    let middle = line.points.iter().find(|point| point.1 >= 50.0);
    let told = |value: f64| format!("{}: half within {} {unit}", line.name, short(value));
    let mark =
        middle.map(|(value, share)| line.look.mark_at((x.place(*value), y.place(*share)), &told(*value)));
    let (class, dash) = (&line.look.class, line.look.mark % 4);
    format!(
        "<polyline class=\"line {class} d{dash}\" points=\"{}\"/>\n{}",
        places.join(" "),
        mark.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Part;

    fn change(subject: &str, services: u32) -> Figure {
        let values: Vec<f64> = (1..300).map(|at| f64::from(at) / 100.0).collect();
        Figure::new(Part::ControlPlane, "change", subject)
            .at(Size::from((services, 3)))
            .less("ms", &values)
            .distribution()
    }

    fn drawn(figures: &[Figure]) -> String {
        let mut report = crate::report::Report::new("test", crate::report::Environment::default());
        figures.iter().for_each(|figure| report.add(figure.clone()));
        plot(&figures.iter().collect::<Vec<_>>(), &Cast::of(&report), "p")
    }

    #[test]
    fn one_subject_has_a_line_for_each_size_in_one_plot() {
        let drawn = drawn(&[change("heddle", 1), change("heddle", 10)]);
        assert_eq!((drawn.matches("<figure>").count(), drawn.matches("<polyline").count()), (1, 2));
        assert!(drawn.contains("ms (log scale)") && drawn.contains("half within 1.50 ms"), "{drawn}");
    }

    #[test]
    fn several_subjects_have_a_plot_for_each_size() {
        let drawn =
            drawn(&[change("heddle", 1), change("heddle", 10), change("other", 1), change("other", 10)]);
        assert_eq!((drawn.matches("<figure>").count(), drawn.matches("<polyline").count()), (2, 4));
    }

    #[test]
    fn what_is_always_the_same_is_no_distribution() {
        let constant = Figure { values: vec![2.0; 50], ..change("heddle", 1) };
        assert_eq!(drawn(&[constant]), "");
    }
}
