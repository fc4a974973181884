//! The numbers themselves.

use super::escape;
use super::scale::grouped;
use crate::figure::Figure;
use crate::report::{Claim, Environment, Report, range, short};
use crate::stats::{Spread, Verdict, permille};
use std::collections::BTreeMap;

/// A workload's figures.
pub(super) fn figures(report: &Report, group: &[&Figure]) -> String {
    let base =
        group.iter().any(|figure| report.ratios(figure).is_some()).then(|| group[0].part.base()).flatten();
    let has_worst = group.iter().any(|figure| !figure.rounds);
    let mut head = "<th scope=\"col\">Subject</th><th scope=\"col\">Services × endpoints</th><th scope=\"col\">Median</th>\
                    <th scope=\"col\">Min to max</th>"
        .to_owned();
    if has_worst {
        head += "<th scope=\"col\">99 %</th>";
    }
    head += &base.map(|base| format!("<th scope=\"col\">× {}</th>", escape(base))).unwrap_or_default();
    let rows: String = group.iter().map(|figure| row(report, figure, has_worst, base.is_some())).collect();
    scrolled(&format!("<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>"))
}

fn row(report: &Report, figure: &Figure, has_worst: bool, has_ratio: bool) -> String {
    let spread = figure.spread();
    let noisy = if report.is_noisy(figure) { " <em>noisy</em>" } else { "" };
    let size = figure
        .size
        .map(|it| format!("{} × {}", grouped(&it.services.to_string()), grouped(&it.endpoints.to_string())));
    let ratio = report.ratios(figure).and_then(|ratios| Spread::of(&ratios));
    let ratio = ratio.map(|it| format!("{} <small>({})</small>", short(it.median), range(&it)));
    let worst = permille(&figure.values, 990).filter(|_| !figure.rounds).map(short);
    let cells = [
        Some(size.unwrap_or_default()),
        Some(spread.map_or("–".to_owned(), |it| short(it.median))),
        Some(spread.map(|it| range(&it)).unwrap_or_default()),
        has_worst.then(|| worst.unwrap_or_default()),
        has_ratio.then(|| ratio.unwrap_or_default()),
    ];
    let cells: String = cells.iter().flatten().map(|text| number(text)).collect();
    format!("<tr><th scope=\"row\">{}{noisy}</th>{cells}</tr>\n", escape(&figure.subject))
}

/// What must hold.
pub(super) fn claims(claims: &[Claim]) -> String {
    if claims.is_empty() {
        return String::new();
    }
    let row = |claim: &Claim| {
        let (class, sign) = match claim.verdict() {
            Verdict::Held => ("held", "✓"),
            Verdict::Missed => ("missed", "✗"),
            Verdict::Noisy => ("unsure", "?"),
        };
        let Claim { what, unit, spread, must } = claim;
        format!(
            "<tr><th scope=\"row\">{}</th><td class=\"{class}\">{sign} {}</td>{}{}{}</tr>
",
            escape(what),
            claim.verdict(),
            number(&format!("{} {}", short(spread.median), escape(unit))),
            number(&must.to_string()),
            number(&range(spread))
        )
    };
    let head = "<thead><tr><th scope=\"col\">What</th><th scope=\"col\">Verdict</th><th scope=\"col\">Median</th>\
                <th scope=\"col\">Must be</th><th scope=\"col\">Min to max</th></tr></thead>";
    let rows: String = claims.iter().map(row).collect();
    let table = scrolled(&format!("{head}\n<tbody>\n{rows}</tbody>"));
    format!(
        "<section class=\"card\" id=\"claims\">\n<h2>What must hold</h2>\n<p class=\"sub\">Held when both quartiles of the rounds keep to it, \
         missed when neither does, and noisy otherwise.</p>\n{table}</section>\n"
    )
}

/// Where it was measured.
pub(super) fn environment(it: &Environment) -> String {
    let load = |of: &[f64]| of.iter().map(|average| format!("{average:.2}")).collect::<Vec<_>>().join(" ");
    let pair = |name: &str, value: &str| {
        format!("<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n", escape(name), escape(value))
    };
    let mut rows = pair("Processors", &format!("{} × {}", it.processors, it.processor));
    rows += &pair("Memory", &format!("{:.1} GB", it.memory / 1e3));
    rows += &pair("Kernel", &format!("Linux {}", it.kernel));
    rows += &pair(
        "Load at the start, and at the end",
        &format!("{}, and {}", load(&it.load_at_start), load(&it.load_at_end)),
    );
    rows += &pair("heddle", &format!("{}, commit {}", it.version, it.commit));
    rows += &pairs(&it.programs);
    let mut flaws = String::new();
    if !it.mitigations.is_empty() {
        flaws += "<h3>Flaws of the processor</h3>\n";
        flaws += &scrolled(&format!("<tbody>\n{}</tbody>", pairs(&it.mitigations)));
    }
    let table = scrolled(&format!("<tbody>\n{rows}</tbody>"));
    format!(
        "<section class=\"card words\" id=\"environment\">\n<h2>Environment</h2>\n{table}{flaws}</section>\n"
    )
}

fn pairs(of: &BTreeMap<String, String>) -> String {
    let pair = |(name, value): (&String, &String)| {
        format!("<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n", escape(name), escape(value))
    };
    of.iter().map(pair).collect()
}

/// A cell of digits; `text` is markup already.
fn number(text: &str) -> String {
    format!("<td class=\"number\">{text}</td>")
}

/// A table that may be wider than a narrow page, which a keyboard can move too.
fn scrolled(rows: &str) -> String {
    format!("<div class=\"scroll\" tabindex=\"0\">\n<table>\n{rows}\n</table>\n</div>\n")
}
