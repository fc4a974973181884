//! Says what happens, and remembers what was measured.

use crate::demo::Error;
use std::io::Write;
use std::time::Duration;

/// How wide the first column of a table is.
const WIDE: usize = 60;

/// Who tells the story.
pub(super) struct Teller<'a> {
    out: &'a mut dyn Write,
    measured: Vec<(String, String)>,
}

impl<'a> Teller<'a> {
    /// One who tells it there.
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self { out, measured: Vec::new() }
    }

    /// A line for the reader, now and not when a buffer is full.
    pub(super) fn say(&mut self, line: &str) -> Result<(), Error> {
        writeln!(self.out, "{line}")?;
        Ok(self.out.flush()?)
    }

    /// A heading, with what follows from it below.
    pub(super) fn head(&mut self, line: &str) -> Result<(), Error> {
        self.say(&format!("\n{line}"))
    }

    /// Of what a command printed, the line that begins with a word and what is indented below it, as grep shows them.
    pub(super) fn show(
        &mut self,
        host: &str,
        command: &str,
        (printed, word): (&str, &str),
    ) -> Result<(), Error> {
        let lines = section(printed, word);
        let below = match lines.len() {
            0 | 1 => String::new(),
            count => format!("-A {} ", count - 1),
        };
        self.say(&format!("  {host}# {command} | grep {below}{word}"))?;
        lines.iter().try_for_each(|line| self.say(&format!("    {line}")))
    }

    /// Says a figure, and keeps it for the table.
    pub(super) fn measure(&mut self, what: &str, figure: String) -> Result<(), Error> {
        self.say(&row(what, &figure))?;
        self.measured.push((what.to_owned(), figure));
        Ok(())
    }

    /// Everything that was measured.
    pub(super) fn table(&mut self) -> Result<(), Error> {
        self.head("What was measured, on this machine:")?;
        let rows: Vec<String> = self.measured.iter().map(|(what, figure)| row(what, figure)).collect();
        rows.iter().try_for_each(|row| self.say(row))
    }
}

/// The line that begins with a word, and what is indented below it.
fn section<'a>(printed: &'a str, word: &str) -> Vec<&'a str> {
    let mut lines = printed.lines().skip_while(|line| !line.starts_with(word));
    let first = lines.next();
    first.into_iter().chain(lines.take_while(|line| line.starts_with(' '))).collect()
}

fn row(what: &str, figure: &str) -> String {
    format!("  {what:<WIDE$} {figure:>10}")
}

/// A time to read.
pub(super) fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_a_line_and_what_is_indented_below() {
        let printed = "state  whole\npeers  1 node\n  node-2  direct\ndrift  none\n";
        assert_eq!(section(printed, "peers"), ["peers  1 node", "  node-2  direct"]);
        assert_eq!(section(printed, "drift"), ["drift  none"]);
        assert!(section(printed, "mtu").is_empty());
    }
}
