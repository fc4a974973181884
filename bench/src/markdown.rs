//! The report for pasting: tables in Markdown, which GitHub and others show.

use crate::figure::Figure;
use crate::report::{Claim, Report, range, short};
use crate::stats::{Spread, permille};

/// Writes it.
pub fn write(report: &Report) -> String {
    let it = &report.environment;
    let mut text = format!("## heddle-bench {}, profile {}\n\n", cell(&it.version), cell(&report.profile));
    text += &format!("{}, commit {}. {}.\n", cell(&it.date), cell(&it.commit), cell(&it.machine()));
    for (word, rest) in report.cautions() {
        text += &format!("\n**{word}**: {}.\n", cell(&rest));
    }
    let mut above = None;
    for group in report.groups() {
        if above.replace(group[0].part) != Some(group[0].part) {
            text += &format!("\n### {}\n", capital(&group[0].part.to_string()));
        }
        text += &write_group(report, &group);
    }
    if !report.claims.is_empty() {
        text += "\n### What must hold\n\n| | median | min to max | must be | |\n|---|--:|--:|--:|---|\n";
        report.claims.iter().for_each(|claim| text += &write_claim(claim));
    }
    text
}

fn write_group(report: &Report, group: &[&Figure]) -> String {
    let head = group[0];
    let has_ratio = group.iter().any(|figure| report.ratios(figure).is_some());
    let has_worst = group.iter().any(|figure| !figure.rounds);
    let mut names = vec![
        format!("{}, {}", cell(&head.workload), cell(&head.unit)),
        "median".to_owned(),
        "min to max".to_owned(),
    ];
    names.extend(has_worst.then(|| "99 %".to_owned()));
    names.extend(head.part.base().filter(|_| has_ratio).map(|base| format!("× {base}")));
    let mut text = format!("\n| {} | |\n|---|{}---|\n", names.join(" | "), "--:|".repeat(names.len() - 1));
    for figure in group {
        let spread = figure.spread();
        let ratio = report.ratios(figure).and_then(|ratios| Spread::of(&ratios)).map(of_ratio);
        let worst = permille(&figure.values, 990).filter(|_| !figure.rounds).map(short);
        let mut cells = vec![
            cell(&figure.who()),
            spread.map_or("–".to_owned(), |spread| short(spread.median)),
            spread.map(|spread| range(&spread)).unwrap_or_default(),
        ];
        cells.extend(has_worst.then(|| worst.unwrap_or_default()));
        cells.extend(has_ratio.then(|| ratio.unwrap_or_default()));
        let noisy = if report.is_noisy(figure) { " noisy" } else { "" };
        text += &format!("| {} |{noisy} |\n", cells.join(" | "));
    }
    text
}

fn of_ratio(spread: Spread) -> String {
    format!("{} ({})", short(spread.median), range(&spread))
}

fn write_claim(claim: &Claim) -> String {
    let Claim { what, unit, spread, must } = claim;
    let (median, range) = (short(spread.median), range(spread));
    format!("| {} | {median} | {range} | {must} {} | {} |\n", cell(what), cell(unit), claim.verdict())
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Text that stays one cell, and is no markup.
fn cell(text: &str) -> String {
    let mut safe = String::new();
    for letter in text.chars() {
        match letter {
            '\\' | '|' | '*' | '_' | '`' | '[' | ']' | '#' | '~' => safe.extend(['\\', letter]),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            letter if letter.is_control() => safe.push(' '),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Part;
    use crate::report::Environment;
    use crate::stats::Bound;

    #[test]
    fn every_row_has_as_many_cells_as_its_head() {
        let mut report = Report::new("test", Environment::default());
        let connection = |subject| Figure::new(Part::DataPlane, "new | connection", subject);
        report.add(connection("direct").less("µs", &[10.0, 11.0]));
        report.add(connection("<heddle>").less("µs", &[12.0, 11.0]));
        report.add(
            Figure::new(Part::ControlPlane, "one endpoint", "heddle").less("ms", &[1.0, 2.0]).distribution(),
        );
        report.add(Figure::new(Part::ControlPlane, "start", "heddle").less("s", &[]));
        report.claim(Claim::new("a", "×", &[1.0, 2.0], Bound::AtMost(3.0)));
        let text = write(&report);
        for table in text.split("\n\n").filter(|block| block.trim_start().starts_with("| ")) {
            let bars = |line: &str| line.replace("\\|", "").matches('|').count();
            let rows: Vec<&str> = table.lines().filter(|line| line.starts_with('|')).collect();
            assert!(rows.iter().all(|row| bars(row) == bars(rows[0])), "{table}");
        }
        for expected in [
            "| &lt;heddle&gt; | 12 |",
            "× direct |",
            "| ≤ 3 × | held |",
            "new \\| connection, µs",
            "| heddle | – |",
        ] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
    }
}
