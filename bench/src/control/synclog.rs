//! What the proxy itself says of its syncs, with `-v 4 --logging-format json`.

use jiff::Timestamp;
use serde_json::Value;

/// One sync, from the objects in memory to the kernel's yes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sync {
    /// The whole state was compared, and differed: a start or a repair.
    pub whole: bool,
    /// Operations that the kernel took.
    pub operations: f64,
    /// How long it took, in milliseconds.
    pub milliseconds: f64,
    /// The same until sockets had it, where they came first.
    pub led: Option<f64>,
    /// When it was told.
    pub at: Timestamp,
}

/// The syncs of a log that grows. Each line is read once: all of them again after each change would push the proxy out of the caches.
#[derive(Debug, Default)]
pub struct SyncLog {
    read: usize,
    syncs: Vec<Sync>,
}

impl SyncLog {
    /// All syncs so far, in order. `lines` gives the whole lines after so many bytes, and where the next one begins.
    pub fn follow(&mut self, lines: impl FnOnce(usize) -> (String, usize)) -> &[Sync] {
        let (lines, read) = lines(self.read);
        self.read = read;
        self.syncs.extend(syncs(&lines));
        &self.syncs
    }
}

fn syncs(lines: &str) -> impl Iterator<Item = Sync> {
    let syncs = lines.lines().filter(|line| line.contains("elapsed"));
    syncs.filter_map(|line| parse(&serde_json::from_str(line).ok()?))
}

/// Seconds in which maps for sockets were loaded and filled, each time.
pub fn fillings(log: &str) -> Vec<f64> {
    let lines = log.lines().filter(|line| line.contains("filled maps for sockets"));
    let elapsed = |line: Value| milliseconds(line.get("fields")?.get("elapsed")?.as_str()?);
    lines.filter_map(|line| Some(elapsed(serde_json::from_str(line).ok()?)? / 1e3)).collect()
}

fn parse(line: &Value) -> Option<Sync> {
    let fields = line.get("fields")?;
    let operations = fields.get("operations")?.as_f64()?;
    let whole = match fields.get("message")?.as_str()? {
        "synced" => operations > 0.0 && fields.get("compared")?.as_f64()? > 0.0,
        "wrote the Services of this node" => true,
        _ => return None,
    };
    let milliseconds = milliseconds(fields.get("elapsed")?.as_str()?)?;
    let led = fields.get("led").and_then(Value::as_str).and_then(self::milliseconds);
    let at = line.get("timestamp")?.as_str()?.parse().ok()?;
    Some(Sync { whole, operations, milliseconds, led, at })
}

/// Reads what `Duration` prints for people.
fn milliseconds(text: &str) -> Option<f64> {
    let units = [("ns", 1e-6), ("µs", 1e-3), ("ms", 1.0), ("s", 1e3)];
    units.iter().find_map(|(unit, factor)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * factor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn durations_are_read_as_rust_prints_them() {
        for (duration, expected) in [(Duration::from_micros(1500), 1.5), (Duration::from_secs(2), 2000.0)] {
            assert_eq!(milliseconds(&format!("{duration:?}")), Some(expected));
        }
        assert_eq!(milliseconds(&format!("{:?}", Duration::from_micros(250))), Some(0.25));
        assert_eq!(milliseconds("soon"), None);
    }

    #[test]
    fn syncs_are_found_among_other_lines() {
        let log = concat!(
            "not json\n",
            r#"{"timestamp":"2026-01-02T03:04:05.000006Z","fields":{"message":"wrote the Services of this node","operations":12,"elapsed":"3ms"}}"#,
            "\n",
            r#"{"timestamp":"2026-01-02T03:04:06.000006Z","fields":{"message":"synced","frontends":1,"operations":2,"compared":0,"elapsed":"90µs","led":"20µs"}}"#,
            "\n",
            r#"{"timestamp":"2026-01-02T03:04:07.000006Z","fields":{"message":"synced","frontends":1,"operations":9,"compared":2,"elapsed":"2ms"}}"#,
            "\n",
            r#"{"level":"DEBUG","fields":{"message":"something else"}}"#,
        );
        let syncs: Vec<Sync> = syncs(log).collect();
        let at = "2026-01-02T03:04:05.000006Z".parse().unwrap();
        assert_eq!(syncs[0], Sync { whole: true, operations: 12.0, milliseconds: 3.0, led: None, at });
        assert!(!syncs[1].whole && (syncs[1].milliseconds - 0.09).abs() < 1e-9);
        assert!(syncs[1].led.is_some_and(|led| (led - 0.02).abs() < 1e-9));
        assert!(syncs[2].whole, "a repair");
        assert_eq!(syncs.len(), 3);
    }

    #[test]
    fn what_comes_later_is_read_once() {
        let line = |operations: u32| {
            let fields =
                format!(r#"{{"message":"synced","operations":{operations},"compared":0,"elapsed":"1ms"}}"#);
            format!("{{\"timestamp\":\"2026-01-02T03:04:05Z\",\"fields\":{fields}}}\n")
        };
        let mut log = SyncLog::default();
        assert!(log.follow(|from| (String::new(), from)).is_empty());
        for (read, operations) in [(0, 1), (90, 2)] {
            let syncs = log.follow(|from| {
                assert_eq!(from, read);
                (line(operations), from + 90)
            });
            assert_eq!(syncs.last().map(|sync| sync.operations), Some(f64::from(operations)));
        }
        assert_eq!(log.syncs.len(), 2);
    }
}
