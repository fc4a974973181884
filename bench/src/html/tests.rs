//! The page as text; that a browser shows it is a test of its own (`bench/tests/page.rs`).

use super::*;
use crate::figure::Part;
use crate::report::{Claim, Environment};
use crate::stats::Bound;

fn hostile() -> Report {
    let text = "<script>alert(\"1\" & '2')</script>";
    let mut environment =
        Environment { commit: text.to_owned(), arguments: vec![text.to_owned()], ..Environment::default() };
    environment.mitigations.insert(text.to_owned(), text.to_owned());
    let mut report = Report::new(text, environment);
    for part in [Part::DataPlane, Part::ControlPlane] {
        for services in [1, 10] {
            let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
            let figure = Figure::new(part, text, text).at((services, 3).into()).less(text, &values);
            report.add(if part == Part::ControlPlane { figure.distribution() } else { figure });
        }
    }
    report.add(Figure::new(Part::DataPlane, text, "direct").less(text, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    report.claim(Claim::new(text, text, &[1.0], Bound::AtMost(2.0)));
    report
}

#[test]
fn text_of_a_report_is_never_markup() {
    let page = write(&hostile());
    assert!(!page.contains("<script") && !page.contains("alert(\""), "{page}");
    assert!(page.contains("&lt;script&gt;alert(&quot;1&quot; &amp; &#39;2&#39;)"), "{page}");
}

#[test]
fn tags_are_closed_and_ids_are_unique() {
    let page = write(&hostile());
    for tag in ["section", "figure", "svg", "table", "tr", "ul", "main", "text", "title", "div"] {
        let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    let mut ids: Vec<&str> = page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "{ids:?}");
}

#[test]
fn nothing_is_fetched_from_elsewhere() {
    let page = write(&hostile());
    for forbidden in ["http://", "https://", "src=", "url(", "@import", "<link"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
}

#[test]
fn an_empty_report_is_a_page_too() {
    let page = write(&Report::new("test", Environment::default()));
    assert!(page.contains("<h2>Environment</h2>") && !page.contains("What must hold"), "{page}");
}

/// Of a colour, as WCAG 2.2 defines relative luminance.
fn luminance(colour: &str) -> f64 {
    let part = |at: usize| {
        let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
}

#[test]
fn text_and_lines_stand_out_on_both_grounds() {
    let (light, dark) = STYLE.split_once("@media (prefers-color-scheme: dark)").unwrap();
    for ground in [light, dark] {
        let colour = |name: &str| ground.split(&format!("--{name}: ")).nth(1).unwrap()[..7].to_owned();
        let contrast = |one: &str, other: &str| {
            let (one, other) = (luminance(&colour(one)), luminance(&colour(other)));
            (one.max(other) + 0.05) / (one.min(other) + 0.05)
        };
        for text in ["ink", "soft", "good", "bad", "unsure"] {
            assert!(contrast(text, "card") >= 4.5, "{text}: {}", contrast(text, "card"));
        }
        for line in ["s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "base", "axis", "o2", "o5"] {
            assert!(contrast(line, "card") >= 3.0, "{line}: {}", contrast(line, "card"));
        }
    }
}
