//! What is alike in all answers: how JSON and moments are printed.

use jiff::Timestamp;
use serde_json::Value;
use std::fmt::{self, Write};

/// JSON for eyes and for `diff`.
pub fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// How long before `now` something was. A clock that was set back makes it no time at all.
pub fn ago(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(then.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        7200..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// Rows below a head, in columns as wide as what is in them; the last one is no column.
///
/// # Errors
/// When nothing can be written.
pub fn table<const N: usize>(f: &mut impl Write, head: [&str; N], rows: &[[String; N]]) -> fmt::Result {
    let rows = || rows.iter().map(|row| row.each_ref().map(String::as_str));
    let lines = || std::iter::once(head).chain(rows());
    let width = |column: usize| lines().map(|line| line[column].len()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..N).map(|column| if column + 1 < N { width(column) } else { 0 }).collect();
    for line in lines() {
        line.iter().zip(&widths).try_for_each(|(cell, width)| write!(f, "  {cell:width$}"))?;
        writeln!(f)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_in_the_largest_unit_of_which_there_are_two() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let told = [0, 119, 120, 7199, 7200, 172_799, 172_800].map(|passed| ago(at(passed), at(0)));
        assert_eq!(
            told,
            ["0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 d"].map(|t| format!("{t} ago"))
        );
        assert_eq!(ago(at(0), at(9)), "0 s ago");
    }
}
