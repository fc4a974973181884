//! The report as a file: JSON, whose fields `docs/bench-report.md` describes.
//!
//! Beside what was measured, it holds what is derived from it, for programs that only want to read a number. Invariant: what is derived
//! is never read back.

use super::{Claim, Report};
use crate::Failure;
use crate::figure::Figure;
use crate::stats::{Spread, permille};
use serde_json::{Value, json};

/// Version of the shape: a field may come within one, and what a field means stays.
pub const SCHEMA: u32 = 2;

/// Writes it.
pub fn write(report: &Report) -> Value {
    let mut whole = json!(report);
    whole["figures"] = report.figures.iter().map(|figure| write_figure(report, figure)).collect();
    whole["claims"] = report.claims.iter().map(write_claim).collect();
    whole
}

/// Reads it back.
///
/// # Errors
/// When the text is no report, or one of another shape; one sentence says which.
pub fn read(text: &str) -> Result<Report, Failure> {
    let whole: Value = serde_json::from_str(text).map_err(|cause| format!("this is not JSON: {cause}"))?;
    match whole["schema"].as_u64() {
        Some(schema) if schema == u64::from(SCHEMA) => {}
        Some(schema) => {
            return Err(
                format!("the report has schema {schema}, and this program reads {SCHEMA} only").into()
            );
        }
        None => return Err("this is not a report of heddle-bench: it has no schema".into()),
    }
    Ok(serde_json::from_value(whole).map_err(|cause| format!("the report is broken: {cause}"))?)
}

fn write_figure(report: &Report, figure: &Figure) -> Value {
    let mut whole = json!(figure);
    whole["median"] = json!(figure.spread().map(|spread| spread.median));
    whole["min"] = json!(figure.spread().map(|spread| spread.min));
    whole["max"] = json!(figure.spread().map(|spread| spread.max));
    whole["p99"] = json!(permille(&figure.values, 990).filter(|_| !figure.rounds));
    whole["noisy"] = json!(report.is_noisy(figure));
    whole["ratio"] = json!(report.ratios(figure).and_then(|ratios| Spread::of(&ratios)));
    whole
}

fn write_claim(claim: &Claim) -> Value {
    let mut whole = json!(claim);
    whole["verdict"] = json!(claim.verdict());
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Size;
    use crate::figure::{Better, Part};
    use crate::report::Environment;
    use crate::stats::Bound;
    use proptest::collection::{btree_map, vec};
    use proptest::option;
    use proptest::prelude::*;

    /// With the digits that a file keeps.
    fn number() -> impl Strategy<Value = f64> {
        (-999_999_999_i32..1_000_000_000, -3..7)
            .prop_map(|(digits, scale)| f64::from(digits) / 10_f64.powi(scale))
    }

    fn part() -> impl Strategy<Value = Part> {
        prop_oneof![
            Just(Part::Generator),
            Just(Part::DataPlane),
            Just(Part::ControlPlane),
            Just(Part::Plugin)
        ]
    }

    fn figure() -> impl Strategy<Value = Figure> {
        let names =
            ("\\PC{0,12}", prop_oneof![Just("direct".to_owned()), "\\PC{0,12}".prop_map(String::from)]);
        let size = option::of((any::<u32>(), any::<u32>()).prop_map(Size::from));
        let values = (vec(number(), 0..9), any::<bool>(), any::<bool>(), "\\PC{0,6}");
        (part(), names, size, values).prop_map(
            |(part, (workload, subject), size, (values, less, rounds, unit))| {
                let better = if less { Better::Less } else { Better::More };
                Figure { part, workload, subject, size, unit, better, values, rounds }
            },
        )
    }

    fn claim() -> impl Strategy<Value = Option<Claim>> {
        let must = prop_oneof![number().prop_map(Bound::AtMost), number().prop_map(Bound::AtLeast)];
        ("\\PC{0,12}", vec(number(), 0..5), must)
            .prop_map(|(what, found, must)| Claim::new(&what, "×", &found, must))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            figures in vec(figure(), 0..6), claims in vec(claim(), 0..4), text in "\\PC{0,12}", load in vec(number(), 0..3),
            interrupted in any::<bool>(), handicaps in btree_map("\\PC{0,12}", any::<u32>(), 0..2),
        ) {
            let mut environment = Environment { commit: text.clone(), load_at_start: load, ..Environment::default() };
            environment.mitigations.insert(text.clone(), text.clone());
            let claims = claims.into_iter().flatten().collect();
            let report = Report { schema: SCHEMA, profile: text, environment, interrupted, handicaps, figures, claims };
            let written = format!("{:#}", write(&report));
            prop_assert_eq!(read(&written).unwrap(), report);
        }
    }

    #[test]
    fn what_is_no_report_is_told_in_one_sentence() {
        let mut broken = write(&Report::new("test", Environment::default()));
        broken["figures"] = json!([{"part": "weather"}]);
        for (text, expected) in [
            ("{", "this is not JSON"),
            ("[]", "it has no schema"),
            (r#"{"schema": 1, "rows": []}"#, "the report has schema 1, and this program reads 2 only"),
            (broken.to_string().as_str(), "the report is broken: unknown variant `weather`"),
        ] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.contains(expected) && !message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn what_is_derived_stands_beside_the_values() {
        let mut report = Report::new("test", Environment::default());
        let bulk = |subject| Figure::new(Part::DataPlane, "bulk TCP", subject);
        report.add(bulk("direct").more("Gbit/s", &[10.0, 20.0, 20.0]));
        report.add(bulk("heddle nft").more("Gbit/s", &[9.0, 18.0, 16.0]));
        report.claim(Claim::ratio(&report.figures[1], &report.figures[0], Bound::AtLeast(0.7)));
        let json = write(&report);
        assert_eq!(
            (&json["figures"][1]["median"], &json["figures"][1]["ratio"]["min"]),
            (&json!(16.0), &json!(0.8))
        );
        assert_eq!(
            (&json["claims"][0]["verdict"], &json["claims"][0]["must"]["atLeast"]),
            (&json!("held"), &json!(0.7))
        );
    }
}
