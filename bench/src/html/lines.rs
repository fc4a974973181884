//! Medians over the number of Services or endpoints, a line a subject, with whiskers from the least to the greatest.

use super::frame::{Axis, Frame};
use super::growth::{Over, Point, across};
use super::scale::{Scale, count, label};
use super::series::{Cast, Look, Series, legend};
use super::{escape, framed};
use crate::figure::Figure;
use crate::report::{range, short};
use crate::stats::Spread;

/// When the greatest is so many times the least, steps of a line are read better as ratios.
const WIDE: f64 = 8.0;
/// Between the whiskers of neighbouring lines, so that none hides another.
const BESIDE: f64 = 3.5;

/// What has no size: the same at all of them.
struct Level {
    name: String,
    look: Look,
    spread: Spread,
}

/// The plots; nothing where no subject has two sizes.
pub(super) fn plot(group: &[&Figure], cast: &Cast, id: &str) -> String {
    let over = |over| one(over, group, cast, id);
    over(Over::Services) + &over(Over::Endpoints)
}

fn one(over: Over, group: &[&Figure], cast: &Cast, id: &str) -> String {
    let lines = over.lines(group, cast);
    if !lines.iter().any(|line| line.points.len() > 1) {
        return String::new();
    }
    let levels = levels(group, cast);
    let id = format!("{id}-over-{}", if over == Over::Services { "services" } else { "endpoints" });
    let title = format!("{} over the number of {}", group[0].workload, over.name());
    let description = "A line for each subject. The table beside the plots has the same numbers.";
    let frame = Frame { id: &id, title: &title, description, height: 280.0 };
    let spreads = lines.iter().flat_map(|line| &line.points).map(|point| &point.spread);
    let (x, ticks) = across(&lines, Frame::across());
    let (y, scale) = upwards(spreads.chain(levels.iter().map(|level| &level.spread)), &frame);
    let unit = format!("{}{scale}", group[0].unit);
    let mut contents = frame.rows(&Axis { ticks: y.ticks(), scale: y, unit: &unit, label });
    contents += &frame.columns(&Axis {
        ticks,
        scale: x,
        unit: &format!("{} (log scale)", over.name()),
        label: count,
    });
    levels.iter().for_each(|level| contents += &level.draw(y));
    let middle = f64::from(u32::try_from(lines.len()).unwrap_or(1) - 1) / 2.0;
    for (at, line) in (0_u32..).zip(&lines) {
        contents += &draw(line, (x, y), (f64::from(at) - middle) * BESIDE, &group[0].unit);
    }
    let named = lines.iter().map(|line| (line.name.as_str(), &line.look));
    let entries = levels.iter().map(|level| (level.name.as_str(), &level.look)).chain(named);
    framed(&over.caption(group), &legend(entries), &frame.around(&contents))
}

fn levels(group: &[&Figure], cast: &Cast) -> Vec<Level> {
    let unsized_ones = group.iter().filter(|figure| figure.size.is_none());
    let level = |figure: &&Figure| {
        Some(Level { name: figure.subject.clone(), look: cast.look(figure), spread: figure.spread()? })
    };
    unsized_ones.filter_map(level).collect()
}

impl Level {
    fn draw(&self, y: Scale) -> String {
        let (left, right) = Frame::across();
        let (y, class) = (y.place(self.spread.median), &self.look.class);
        let told = escape(&format!("{}: {}", self.name, short(self.spread.median)));
        format!(
            "<line class=\"line level {class}\" x1=\"{left}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"><title>{told}</title></line>\n"
        )
    }
}

/// The scale of the values, and what to say of it.
fn upwards<'a>(spreads: impl Iterator<Item = &'a Spread>, frame: &Frame<'_>) -> (Scale, &'static str) {
    let (least, most) =
        spreads.fold((f64::MAX, f64::MIN), |(least, most), it| (least.min(it.min), most.max(it.max)));
    if least > 0.0 && most / least > WIDE {
        (Scale::log(least, most, frame.up()), " (log scale)")
    } else {
        (Scale::linear(least, most, frame.up()), "")
    }
}

fn draw(line: &Series<Point>, (x, y): (Scale, Scale), beside: f64, unit: &str) -> String {
    let (class, dash) = (&line.look.class, line.look.mark % 4);
    let (mut places, mut whiskers, mut marks) = (Vec::new(), String::new(), String::new());
    for Point { at, size, spread } in &line.points {
        let (across, middle) = (x.place(f64::from((*at).max(1))) + beside, y.place(spread.median));
        let (low, high) = (y.place(spread.min), y.place(spread.max));
        places.push(format!("{across:.1},{middle:.1}"));
        whiskers += &format!(
            "<line class=\"whisker {class}\" x1=\"{across:.1}\" x2=\"{across:.1}\" y1=\"{low:.1}\" y2=\"{high:.1}\"/>\n"
        );
        let told = format!("{}, {size}: {} {unit} ({})", line.name, short(spread.median), range(spread));
        marks += &line.look.mark_at((across, middle), &told);
    }
    format!("{whiskers}<polyline class=\"line {class} d{dash}\" points=\"{}\"/>\n{marks}", places.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Size;
    use crate::figure::Part;

    fn change(subject: &str, size: (u32, u32), values: &[f64]) -> Figure {
        Figure::new(Part::ControlPlane, "change", subject).at(Size::from(size)).less("ms", values)
    }

    fn drawn(figures: &[Figure]) -> String {
        let mut report = crate::report::Report::new("test", crate::report::Environment::default());
        figures.iter().for_each(|figure| report.add(figure.clone()));
        plot(&figures.iter().collect::<Vec<_>>(), &Cast::of(&report), "p")
    }

    #[test]
    fn one_size_is_no_line() {
        assert_eq!(drawn(&[change("heddle", (1, 3), &[1.0]), change("other", (1, 3), &[1.0])]), "");
    }

    #[test]
    fn a_line_has_a_mark_for_each_size_and_a_level_for_what_has_none() {
        let mut figures =
            [(1, 3), (1_000, 3), (30_000, 4)].map(|size| change("heddle", size, &[1.0, 2.0])).to_vec();
        figures.push(Figure::new(Part::ControlPlane, "change", "floor").less("ms", &[0.5]));
        let drawn = drawn(&figures);
        assert_eq!((drawn.matches("<polyline").count(), drawn.matches("class=\"whisker").count()), (1, 3));
        for expected in [
            ">30k</text>",
            "class=\"line level s2\"",
            ">Services (log scale)<",
            "heddle, 1000 × 3: 2 ms (1 to 2)",
        ] {
            assert!(drawn.contains(expected), "{expected} is not in\n{drawn}");
        }
    }

    #[test]
    fn services_and_endpoints_have_a_plot_each() {
        let figures = [(1, 1), (10, 1), (1, 1_000)].map(|size| change("heddle", size, &[1.0]));
        let drawn = drawn(&figures);
        assert_eq!((drawn.matches("<figure>").count(), drawn.matches("<polyline").count()), (2, 2));
        assert!(
            drawn.contains("by number of Services, each with 1 endpoint,")
                && drawn.contains(", at 1 Service,"),
            "{drawn}"
        );
    }
}
