//! Stamps and ages: RFC 3339 in objects, `5m` and `3d4h` in tables.

use jiff::Timestamp;

/// Now, to the second, as `metadata.creationTimestamp` has it.
pub(crate) fn now_text() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The age of a stamp in kubectl's words (`duration.HumanDuration` of apimachinery).
pub(crate) fn age_of(stamp: &str, now: Timestamp) -> String {
    let Ok(since) = stamp.parse::<Timestamp>() else { return "<unknown>".to_owned() };
    human(now.as_second() - since.as_second())
}

fn human(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let two = |large: i64, unit: &str, small: i64, smaller: &str| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit}{small}{smaller}"),
    };
    match seconds {
        ..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_as_kubectl_prints_them() {
        let cases = [(-5, "0s"), (119, "119s"), (120, "2m"), (125, "2m5s"), (3_600, "60m"), (11_000, "3h3m")];
        for (seconds, text) in cases {
            assert_eq!(human(seconds), text);
        }
        assert_eq!(human(3 * 86_400 + 4 * 3_600), "3d4h");
        assert_eq!(human(400 * 86_400), "400d");
    }

    #[test]
    fn a_stamp_that_cannot_be_read_has_no_age() {
        let now = "2026-01-02T00:05:00Z".parse().unwrap();
        assert_eq!(age_of("2026-01-02T00:00:00Z", now), "5m");
        assert_eq!(age_of("yesterday", now), "<unknown>");
    }
}
