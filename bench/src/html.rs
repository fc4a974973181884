//! The report as one page with plots, which needs nothing but itself: no script, no font, no picture from elsewhere.
//!
//! | module | what it is |
//! |---|---|
//! | `scale` | numbers to places, and where ticks stand |
//! | `frame` | the axes of a plot |
//! | `series` | who has which colour and mark; the legend |
//! | `growth` | which figures make a line over the number of Services or endpoints |
//! | `lines` | that line |
//! | `shares` | the distribution of single events |
//! | `bars` | ratios to the base |
//! | `tables` | the numbers themselves, beside each plot |
//!
//! Every plot is a function from values to text. Invariant: whatever text a report has, the page shows it and does not obey it; and the same
//! report gives the same page.

mod bars;
mod frame;
mod growth;
mod lines;
mod scale;
mod series;
mod shares;
mod tables;

use crate::figure::{Better, Figure};
use crate::report::Report;
use crate::stats::Verdict;
use series::Cast;

const STYLE: &str = include_str!("html/style.css");
/// Nothing is fetched, whatever a report says.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// Writes it.
pub fn write(report: &Report) -> String {
    let title = format!("heddle-bench, profile {}", escape(&report.profile));
    let cast = Cast::of(report);
    let groups = report.groups();
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
    );
    page += &head(report, &title, &groups);
    page += &tables::claims(&report.claims);
    let mut above = None;
    for (number, group) in groups.iter().enumerate() {
        let part = group[0].part;
        if above.replace(part) != Some(part) {
            page += &format!("<h2 id=\"{}\">{}</h2>\n", anchor(part), capital(&part.to_string()));
        }
        page += &card(report, group, &cast, number);
    }
    page += &tables::environment(&report.environment);
    page += &repeat(report);
    page + "</main>\n</body>\n</html>\n"
}

fn head(report: &Report, title: &str, groups: &[Vec<&Figure>]) -> String {
    let it = &report.environment;
    let noisy = report.figures.iter().filter(|figure| report.is_noisy(figure)).count();
    let verdicts = |of| report.claims.iter().filter(|claim| claim.verdict() == of).count();
    let tile = |count: usize, what: &str| format!("<li><b>{count}</b> {what}</li>");
    let caution = |(word, rest)| format!("<p class=\"missed\">{word}: {}.</p>\n", escape(rest));
    let cautions = report.cautions();
    let cautions: String = cautions.iter().map(|(word, rest)| caution((word, rest))).collect();
    let mut parts: Vec<_> = groups.iter().map(|group| group[0].part).collect();
    parts.dedup();
    let links: String = parts
        .iter()
        .map(|part| format!("<a href=\"#{}\">{}</a>", anchor(*part), capital(&part.to_string())))
        .collect();
    format!(
        "<header>\n<h1>{title}</h1>\n{cautions}<p class=\"sub\">{}, commit {}<br>{}</p>\n<ul class=\"tiles\">{}{}{}{}{}</ul>\n\
         <nav>{links}<a href=\"#environment\">Environment</a><a href=\"#repeat\">How to repeat</a></nav>\n</header>\n",
        escape(&it.date),
        escape(&it.commit),
        escape(&it.machine()),
        tile(report.figures.len(), "figures"),
        tile(noisy, "of them noisy"),
        tile(verdicts(Verdict::Held), "claims held"),
        tile(verdicts(Verdict::Missed), "missed"),
        tile(verdicts(Verdict::Noisy), "too noisy to tell"),
    )
}

/// One workload: its plots, and its numbers.
fn card(report: &Report, group: &[&Figure], cast: &Cast, number: usize) -> String {
    let head = group[0];
    let better = match head.better {
        Better::Less => "less is better",
        Better::More => "more is better",
    };
    let id = format!("plot-{number}");
    let plots =
        [lines::plot(group, cast, &id), shares::plot(group, cast, &id), bars::plot(report, group, cast, &id)];
    format!(
        "<section class=\"card\">\n<h3>{}</h3>\n<p class=\"sub\">{}, {better}</p>\n<div class=\"plots\">\n{}{}</div>\n</section>\n",
        escape(&head.workload),
        escape(&head.unit),
        plots.concat(),
        tables::figures(report, group),
    )
}

fn repeat(report: &Report) -> String {
    let arguments = report.environment.arguments.join(" ");
    format!(
        "<section class=\"card\" id=\"repeat\">\n<h2>How to repeat</h2>\n<pre>git checkout {}\nmake build\nsudo target/release/heddle-bench {}</pre>\n\
         <p>Add <code>--against old.json</code>, with the JSON of this run, to be told what became worse. \
         docs/benchmarks.md says how everything is measured, and docs/bench-report.md what each word here means.</p>\n</section>\n",
        escape(&report.environment.commit),
        escape(&arguments),
    )
}

/// A plot with its caption and legend; nothing of nothing.
fn framed(caption: &str, legend: &str, plots: &str) -> String {
    if plots.is_empty() {
        return String::new();
    }
    format!("<figure>\n<figcaption>{caption}</figcaption>\n{legend}{plots}</figure>\n")
}

fn anchor(part: crate::figure::Part) -> String {
    part.to_string().to_lowercase().replace(' ', "-")
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Text that is no markup, between tags and in an attribute.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            letter if letter.is_control() => safe.push(' '),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests;
