//! Who has which colour and mark, and the legend that says so.
//!
//! A subject keeps its colour through the page. Colour never stands alone: marks and dashes differ too, and colours were chosen to
//! differ for colour-blind readers on both grounds (`style.css` has them).

use super::escape;
use crate::figure::Figure;
use crate::report::Report;

/// Colours of subjects in `style.css`.
const COLOURS: usize = 8;
/// Steps from pale to deep in `style.css`, for sizes.
const STEPS: usize = 5;

/// The subjects of a report, in the order of their colours.
pub(super) struct Cast(Vec<String>);

/// How a line or a bar looks: a class of `style.css`, and a mark.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Look {
    pub(super) class: String,
    pub(super) mark: usize,
}

/// One name with its look and what is drawn of it, from left to right.
pub(super) struct Series<T> {
    pub(super) name: String,
    pub(super) look: Look,
    pub(super) points: Vec<T>,
}

impl Cast {
    pub(super) fn of(report: &Report) -> Self {
        let mut names: Vec<String> = Vec::new();
        for figure in
            report.figures.iter().filter(|figure| figure.part.base() != Some(figure.subject.as_str()))
        {
            if !names.contains(&figure.subject) {
                names.push(figure.subject.clone());
            }
        }
        Self(names)
    }

    /// How a figure's subject looks; what others are compared with is grey.
    pub(super) fn look(&self, figure: &Figure) -> Look {
        match self
            .0
            .iter()
            .position(|name| *name == figure.subject && figure.part.base() != Some(name.as_str()))
        {
            Some(at) => Look { class: format!("s{}", at % COLOURS + 1), mark: at },
            None => Look { class: "base".to_owned(), mark: 0 },
        }
    }
}

impl Look {
    /// Of one step of several.
    pub(super) fn step(at: usize, of: usize) -> Self {
        let step = if of <= 1 { STEPS - 1 } else { (at * (STEPS - 1) + (of - 1) / 2) / (of - 1) };
        Self { class: format!("o{}", step + 1), mark: at }
    }

    /// The mark at a place, with what a pointer over it is told.
    pub(super) fn mark_at(&self, (x, y): (f64, f64), told: &str) -> String {
        let shape = match self.mark % 4 {
            0 => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\""),
            1 => format!("<rect x=\"{:.1}\" y=\"{:.1}\" width=\"8\" height=\"8\"", x - 4.0, y - 4.0),
            2 => format!("<path d=\"M{x:.1} {:.1}l5.5 5.5-5.5 5.5-5.5-5.5z\"", y - 5.5),
            _ => format!("<path d=\"M{x:.1} {:.1}l5.5 9.5h-11z\"", y - 6.0),
        };
        format!("{shape} class=\"mark {}\"><title>{}</title>{}\n", self.class, escape(told), end_of(&shape))
    }
}

fn end_of(shape: &str) -> &'static str {
    match shape.as_bytes().get(1) {
        Some(b'c') => "</circle>",
        Some(b'r') => "</rect>",
        _ => "</path>",
    }
}

/// The legend; a plot of one name alone needs none but still says it.
pub(super) fn legend<'a>(entries: impl IntoIterator<Item = (&'a str, &'a Look)>) -> String {
    let entry = |(name, look): (&str, &Look)| {
        format!(
            "<li><svg viewBox=\"0 0 26 12\" aria-hidden=\"true\"><line class=\"line {} d{}\" x1=\"0\" x2=\"26\" y1=\"6\" y2=\"6\"/>{}</svg>{}</li>",
            look.class,
            look.mark % 4,
            look.mark_at((13.0, 6.0), name),
            escape(name)
        )
    };
    format!("<ul class=\"legend\">{}</ul>\n", entries.into_iter().map(entry).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Part;
    use crate::report::Environment;

    #[test]
    fn a_subject_keeps_its_colour_and_the_base_has_none() {
        let mut report = Report::new("test", Environment::default());
        for (workload, subject) in [("a", "direct"), ("a", "heddle"), ("a", "other"), ("b", "other")] {
            report.add(Figure::new(Part::DataPlane, workload, subject));
        }
        let cast = Cast::of(&report);
        let looks: Vec<_> = report.figures.iter().map(|figure| cast.look(figure).class).collect();
        assert_eq!(looks, ["base", "s1", "s2", "s2"]);
    }

    #[test]
    fn sizes_go_from_pale_to_deep() {
        let classes: Vec<_> = (0..3).map(|at| Look::step(at, 3).class).collect();
        assert_eq!(
            (classes, Look::step(0, 1).class.as_str()),
            (vec!["o1".into(), "o3".into(), "o5".into()], "o5")
        );
    }
}
