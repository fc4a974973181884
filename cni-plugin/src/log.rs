//! One line for each call, in a file that the configuration names (`logFile`).
//!
//! Runtimes throw stderr away when a call succeeds, and print only the message when it fails. It is not needed for anything:
//! a file that cannot be written is no failure. STATUS and VERSION, which are asked all the time, are logged when they
//! fail only.

use crate::Output;
use crate::spec::{Document, Environment};
use serde_json::Value;
use std::fs::OpenOptions;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Adds what was asked and what came of it, if the configuration names a file.
pub(crate) fn append(environment: &Environment, document: &Document, output: &Output, took: Duration) {
    let asked_often = matches!(environment.command.as_deref(), Some("STATUS" | "VERSION"));
    let Some(path) = document.keys.get("logFile").and_then(Value::as_str) else { return };
    if path.is_empty() || (asked_often && output.success) {
        return;
    }
    let line = write(environment, document, output, took);
    // One write, so that lines of several processes do not mix.
    let file = OpenOptions::new().append(true).create(true).open(path);
    let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
}

/// `1790000000.123 ADD pods/c1/eth0 ok 2100 us {the document on stdout}`.
fn write(environment: &Environment, document: &Document, output: &Output, took: Duration) -> String {
    let text = |value: &Option<String>| value.as_deref().unwrap_or("-").replace(char::is_whitespace, "?");
    let network = document.keys.get("name").and_then(Value::as_str).unwrap_or("-");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!(
        "{}.{:03} {} {}/{}/{} {} {} us {}\n",
        now.as_secs(),
        now.subsec_millis(),
        text(&environment.command),
        network.replace(char::is_whitespace, "?"),
        text(&environment.container),
        text(&environment.ifname),
        if output.success { "ok" } else { "failed" },
        took.as_micros(),
        output.stdout.trim_end(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::decode;

    #[test]
    fn a_line_is_one_line_whatever_is_in_it() {
        let some = |text: &str| Some(text.to_owned());
        let environment =
            Environment { command: some("ADD"), container: some("a\nb"), ..Environment::default() };
        let document = decode(b"{\"name\":\"x\\ny\"}").unwrap();
        let output = Output { stdout: "{\"code\":7}\n".to_owned(), success: false };
        let line = write(&environment, &document, &output, Duration::from_micros(2100));
        assert!(line.ends_with(" ADD x?y/a?b/- failed 2100 us {\"code\":7}\n"), "{line}");
        assert_eq!(line.lines().count(), 1);
    }
}
