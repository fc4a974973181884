//! Medians over the number of Services, a line a subject, with whiskers from the least to the greatest.

use super::frame::{Axis, Frame};
use super::framed;
use super::scale::{Scale, count, grouped, label};
use super::series::{Cast, Series, legend};
use crate::cluster::Size;
use crate::figure::Figure;
use crate::report::{range, short};
use crate::stats::Spread;

/// When the greatest is so many times the least, steps of a line are read better as ratios.
const WIDE: f64 = 8.0;
/// Between the whiskers of neighbouring lines, so that none hides another.
const BESIDE: f64 = 3.5;

struct Point {
    size: Size,
    spread: Spread,
}

/// The plot; nothing where no subject has two sizes.
pub(super) fn plot(group: &[&Figure], cast: &Cast, id: &str) -> String {
    let lines = lines(group, cast);
    if !lines.iter().any(|line| line.points.len() > 1) {
        return String::new();
    }
    let bases: Vec<_> = group.iter().filter(|figure| figure.size.is_none()).collect();
    let levels: Vec<(&Figure, Spread)> =
        bases.iter().filter_map(|base| Some((**base, base.spread()?))).collect();
    let looks: Vec<_> = levels.iter().map(|(base, _)| cast.look(base)).collect();
    let id = format!("{id}-lines");
    let title = format!("{} over the number of Services", group[0].workload);
    let description = "A line for each subject. The table beside the plots has the same numbers.";
    let frame = Frame { id: &id, title: &title, description, height: 280.0 };
    let spreads: Vec<Spread> = lines.iter().flat_map(|line| &line.points).map(|point| point.spread).collect();
    let (x, (y, scale)) =
        (across(&lines), upwards(spreads.iter().chain(levels.iter().map(|it| &it.1)), &frame));
    let unit = format!("{}{scale}", group[0].unit);
    let mut contents = frame.rows(&Axis { ticks: y.ticks(), scale: y, unit: &unit, label });
    contents += &frame.columns(&Axis {
        ticks: columns(&lines),
        scale: x,
        unit: "Services (log scale)",
        label: count,
    });
    for ((base, spread), look) in levels.iter().zip(&looks) {
        let (left, right) = Frame::across();
        let (y, class) = (y.place(spread.median), &look.class);
        let told = super::escape(&format!("{}: {}", base.subject, short(spread.median)));
        contents += &format!(
            "<line class=\"line level {class}\" x1=\"{left}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"><title>{told}</title></line>\n"
        );
    }
    let middle = f64::from(u32::try_from(lines.len()).unwrap_or(1) - 1) / 2.0;
    for (at, line) in (0_u32..).zip(&lines) {
        contents += &draw(line, (x, y), (f64::from(at) - middle) * BESIDE, &group[0].unit);
    }
    let named = lines.iter().map(|line| (line.name.as_str(), &line.look));
    let levels = levels.iter().zip(&looks).map(|((base, _), look)| (base.subject.as_str(), look));
    framed(
        "Median by number of Services, with min to max",
        &legend(levels.chain(named)),
        &frame.around(&contents),
    )
}

/// The figures that have a size, by subject; and by the number of endpoints, where that differs among one number of Services.
fn lines(group: &[&Figure], cast: &Cast) -> Vec<Series<Point>> {
    let sized = || group.iter().filter_map(|figure| Some((*figure, figure.size?, figure.spread()?)));
    let is_crowded = sized().any(|(one, size, _)| {
        let beside = |(two, other, _): (&Figure, Size, _)| {
            two.subject == one.subject && other.services == size.services && other.endpoints != size.endpoints
        };
        sized().any(beside)
    });
    let mut lines: Vec<Series<Point>> = Vec::new();
    for (figure, size, spread) in sized() {
        let name = if is_crowded {
            format!("{}, {} endpoints", figure.subject, grouped(&size.endpoints.to_string()))
        } else {
            figure.subject.clone()
        };
        let point = Point { size, spread };
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.points.push(point),
            None => lines.push(Series { name, look: cast.look(figure), points: vec![point] }),
        }
    }
    lines.iter_mut().for_each(|line| line.points.sort_by_key(|point| point.size));
    lines
}

/// The numbers of Services that have a tick: each that was measured, as far as their labels have room.
fn columns(lines: &[Series<Point>]) -> Vec<f64> {
    let mut services: Vec<u32> =
        lines.iter().flat_map(|line| &line.points).map(|point| point.size.services).collect();
    services.sort_unstable();
    services.dedup();
    let scale = across(lines);
    let mut ticks: Vec<f64> = Vec::new();
    for tick in services.into_iter().map(f64::from) {
        if ticks.last().is_none_or(|last| scale.place(tick) - scale.place(*last) > 24.0) {
            ticks.push(tick);
        }
    }
    ticks
}

fn across(lines: &[Series<Point>]) -> Scale {
    let services =
        || lines.iter().flat_map(|line| &line.points).map(|point| f64::from(point.size.services.max(1)));
    let (least, most) = (services().fold(f64::MAX, f64::min), services().fold(1.0, f64::max));
    Scale::log(least, most, Frame::across())
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
    let at = |point: &Point| x.place(f64::from(point.size.services.max(1))) + beside;
    let places: Vec<String> = line
        .points
        .iter()
        .map(|point| format!("{:.1},{:.1}", at(point), y.place(point.spread.median)))
        .collect();
    let whiskers: String = line
        .points
        .iter()
        .map(|point| {
            let (x, low, high) = (at(point), y.place(point.spread.min), y.place(point.spread.max));
            format!("<line class=\"whisker {class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{low:.1}\" y2=\"{high:.1}\"/>\n")
        })
        .collect();
    let marks: String = line
        .points
        .iter()
        .map(|point| {
            let Point { size, spread } = point;
            let told = format!("{}, {size}: {} {unit} ({})", line.name, short(spread.median), range(spread));
            line.look.mark_at((at(point), y.place(spread.median)), &told)
        })
        .collect();
    format!("{whiskers}<polyline class=\"line {class} d{dash}\" points=\"{}\"/>\n{marks}", places.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn numbers_of_endpoints_at_one_number_of_services_are_lines_of_their_own() {
        let figures = [(1, 1), (10, 1), (1, 1_000), (10, 1_000)].map(|size| change("heddle", size, &[1.0]));
        assert_eq!(drawn(&figures).matches("<polyline").count(), 2);
    }
}
