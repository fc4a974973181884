//! The report on a terminal.

use super::{Claim, Report};
use crate::figure::{Figure, Part};
use crate::stats::{Spread, permille};
use std::fmt;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_head(f, self)?;
        let width =
            self.figures.iter().map(|figure| figure.who().chars().count() + 2).max().unwrap_or_default();
        let mut above = None;
        for group in self.groups() {
            let head = group[0];
            if above.replace(head.part) != Some(head.part) {
                write_part(f, head.part, width)?;
            }
            writeln!(f, "{}, {}", head.workload, head.unit)?;
            group.into_iter().try_for_each(|figure| write_figure(f, self, figure, width))?;
        }
        write_claims(f, &self.claims)
    }
}

fn write_head(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    let it = &report.environment;
    writeln!(
        f,
        "heddle-bench {}, profile {}, commit {}, {}",
        it.version, report.profile, it.commit, it.date
    )?;
    for (word, rest) in report.cautions() {
        writeln!(f, "{}: {rest}", word.to_uppercase())?;
    }
    writeln!(f, "{}", it.machine())
}

fn write_part(f: &mut fmt::Formatter<'_>, part: Part, width: usize) -> fmt::Result {
    let base = part.base().map(|base| format!("× {base}")).unwrap_or_default();
    let name = part.to_string().to_uppercase();
    writeln!(f, "\n{name:width$}  {:>9}  {:>19}  {:>9}  {base:>21}", "median", "min to max", "99 %")
}

fn write_figure(f: &mut fmt::Formatter<'_>, report: &Report, figure: &Figure, width: usize) -> fmt::Result {
    let who = format!("  {}", figure.who());
    let Some(spread) = figure.spread() else { return writeln!(f, "{who:width$}  {:>9}", "–") };
    let worst = permille(&figure.values, 990).filter(|_| !figure.rounds).map(short).unwrap_or_default();
    let ratio = report.ratios(figure).and_then(|ratios| Spread::of(&ratios));
    let ratio = ratio.map(|ratio| format!("{} ({})", short(ratio.median), range(&ratio))).unwrap_or_default();
    let noisy = if report.is_noisy(figure) { "  noisy" } else { "" };
    let row = format!(
        "{who:width$}  {:>9}  {:>19}  {worst:>9}  {ratio:>21}{noisy}",
        short(spread.median),
        range(&spread)
    );
    writeln!(f, "{}", row.trim_end())
}

fn write_claims(f: &mut fmt::Formatter<'_>, claims: &[Claim]) -> fmt::Result {
    let width = claims.iter().map(|claim| claim.what.chars().count()).max().unwrap_or_default();
    if !claims.is_empty() {
        writeln!(f, "\n{:width$}  {:>9}  {:>19}  {:9}  must be", "CLAIMS", "median", "min to max", "unit")?;
    }
    for claim in claims {
        let Claim { what, unit, spread, must } = claim;
        let (median, range, verdict) = (short(spread.median), range(spread), claim.verdict());
        writeln!(f, "{what:width$}  {median:>9}  {range:>19}  {unit:9}  {must}: {verdict}")?;
    }
    Ok(())
}

/// The least and the greatest; nothing of a single value.
pub fn range(spread: &Spread) -> String {
    if spread.count > 1 { format!("{} to {}", short(spread.min), short(spread.max)) } else { String::new() }
}

/// A number with three digits that mean something.
pub fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Environment;
    use crate::stats::Bound;

    #[test]
    fn the_table_has_figures_ratios_noise_and_verdicts() {
        let connection = |subject| Figure::new(Part::DataPlane, "new connection", subject);
        let mut report =
            Report::new("test", Environment { commit: "abc".to_owned(), ..Environment::default() });
        report.add(connection("direct").less("µs of CPU", &[10.0; 6]));
        report.add(connection("heddle nft").less("µs of CPU", &[12.34, 8.0, 15.0, 20.0, 11.0, 30.0]));
        let change =
            Figure::new(Part::ControlPlane, "one endpoint", "heddle nft").less("ms", &[1.0, 2.0, 0.125]);
        report.add(change.distribution());
        report.claim(Claim::new("held", "ms", &[1.0, 2.0, 3.0], Bound::AtMost(3.0)));
        let text = report.to_string();
        for expected in
            ["commit abc", "DATA PLANE", "new connection, µs of CPU", "1.50 (0.800 to 3)  noisy", "≤ 3: held"]
        {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
        assert_eq!(
            text.lines().find(|line| line.contains("0.125")).unwrap().split_whitespace().last(),
            Some("2")
        );
    }
}
