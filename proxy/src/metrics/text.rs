//! The two text formats: `OpenMetrics` 1.0.0 for who asks for it, and Prometheus' 0.0.4, which is kube-proxy's.
//!
//! Pure. Invariant: both have the same series with the same values.

use std::fmt::Write;

/// The content type of [`OpenMetrics`](https://prometheus.io/docs/specs/om/open_metrics_spec/).
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The content type of Prometheus' own text.
pub const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether an `Accept` header asks for `OpenMetrics` at least as much as for plain text.
pub fn wants_open_metrics(accept: &str) -> bool {
    let wish = |kind: &str| {
        let ranges = accept.split(',').filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let is_it = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(kind));
            let quality =
                parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse::<f32>().ok());
            quality.filter(|_| is_it)
        });
        ranges.fold(0.0, f32::max)
    };
    let open = wish("application/openmetrics-text");
    open > 0.0 && open >= wish("text/plain")
}

/// Prometheus' text from `OpenMetrics`. There, a counter's name ends as its series does, whole numbers of buckets have no
/// decimals, and nothing marks the end.
pub fn plain(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(of) = line.strip_prefix("# HELP ") {
            help = of.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|of| of.split_once(' ')) {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, help)) = help.take() {
                let _ = writeln!(text, "# HELP {name}{suffix} {help}");
            }
            let _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            sample(&mut text, line);
        }
    }
    text
}

fn sample(text: &mut String, line: &str) {
    const BOUND: &str = "le=\"";
    let bound = line.find(BOUND).map(|at| at + BOUND.len());
    let whole = bound.and_then(|start| {
        let end = start + line[start..].find('"')?;
        line[..end].strip_suffix(".0").map(|before| (before, end))
    });
    match whole {
        Some((before, end)) => text.extend([before, &line[end..], "\n"]),
        None => text.extend([line, "\n"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_open_metrics_gets_it_unless_plain_text_is_dearer() {
        // Prometheus 2 and 3, curl, and nobody in particular.
        let two = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert!(wants_open_metrics(two));
        for plain in [
            "text/plain;version=0.0.4;q=1,*/*;q=0.1",
            "text/plain;q=0.6, application/openmetrics-text;q=0.5",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=x",
            "*/*",
            "",
        ] {
            assert!(!wants_open_metrics(plain), "{plain}");
        }
    }

    #[test]
    fn plain_text_names_counters_as_their_series_and_bounds_as_go_prints_them() {
        let open = "# HELP a Help a.\n# TYPE a counter\n# UNIT a x\na_total{x=\"1.0\"} 2\n# HELP b Help b.\n# TYPE b histogram\n\
                    b_bucket{le=\"1.0\"} 1\nb_bucket{le=\"0.25\",x=\"2.0\"} 1\nb_bucket{le=\"+Inf\"} 1\n# EOF\n";
        let expected = "# HELP a_total Help a.\n# TYPE a_total counter\na_total{x=\"1.0\"} 2\n# HELP b Help b.\n# TYPE b histogram\n\
                        b_bucket{le=\"1\"} 1\nb_bucket{le=\"0.25\",x=\"2.0\"} 1\nb_bucket{le=\"+Inf\"} 1\n";
        assert_eq!(plain(open), expected);
    }
}
