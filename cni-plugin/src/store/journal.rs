//! The form that leases had before they had a table: a text file, one line for each change.
//!
//! It is only read, once: what it says is taken over into a table, and the file removed. Invariant: a line counts only
//! with its line end and the right checksum; the last one may lack both, since its writer was killed.

use crate::ipam::Owner;
use crate::names::line_checksum;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The head's first words.
const FORMAT: &str = "heddle-leases 1";

/// What the journal of this boot says; none when it is of another one. The error is the number of the damaged line.
pub(super) fn read(content: &[u8], boot: &str) -> Result<BTreeMap<Owner, Vec<IpAddr>>, usize> {
    let mut leases = BTreeMap::new();
    let mut lines = content.split_inclusive(|byte| *byte == b'\n');
    if lines.next() != Some(format!("{FORMAT} {boot}\n").as_bytes()) {
        return Ok(leases);
    }
    for (line, number) in lines.filter(|line| line.ends_with(b"\n")).zip(2_usize..) {
        match std::str::from_utf8(line).ok().and_then(read_line).ok_or(number)? {
            Change::Grant(owner, addresses) => _ = leases.insert(owner, addresses),
            Change::Release(owner) => _ = leases.remove(&owner),
            Change::Other => {}
        }
    }
    Ok(leases)
}

enum Change {
    Grant(Owner, Vec<IpAddr>),
    Release(Owner),
    /// Where a search went on.
    Other,
}

fn read_line(line: &str) -> Option<Change> {
    let (text, sum) = line.strip_suffix('\n')?.rsplit_once(' ')?;
    if sum.len() != 16 || u64::from_str_radix(sum, 16) != Ok(line_checksum(text)) {
        return None;
    }
    match text.split(' ').collect::<Vec<_>>()[..] {
        ["grant", container, ifname, list] => {
            let addresses = list.split(',').map(|address| address.parse().ok()).collect::<Option<_>>()?;
            Some(Change::Grant(Owner::new(container, ifname), addresses))
        }
        ["release", container, ifname] => Some(Change::Release(Owner::new(container, ifname))),
        ["latest", _] => Some(Change::Other),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(lines: &[&str]) -> String {
        let line = |text: &&str| format!("{text} {:016x}\n", line_checksum(text));
        format!("{FORMAT} boot\n{}", lines.iter().map(line).collect::<String>())
    }

    const LINES: &[&str] =
        &["grant a eth0 10.0.0.2,fd00::2", "grant b eth0 10.0.0.3", "release a eth0", "latest 10.0.0.3"];

    #[test]
    fn what_an_older_program_wrote_is_read() {
        let leases = read(journal(LINES).as_bytes(), "boot").unwrap();
        assert_eq!(leases, BTreeMap::from([(Owner::new("b", "eth0"), vec!["10.0.0.3".parse().unwrap()])]));
        assert!(read(journal(LINES).as_bytes(), "next boot").unwrap().is_empty());
        assert!(read(b"", "boot").unwrap().is_empty());
    }

    #[test]
    fn an_unfinished_line_does_not_count_and_a_damaged_one_is_named() {
        let text = journal(&LINES[..2]);
        assert_eq!(read(&text.as_bytes()[..text.len() - 1], "boot").unwrap().len(), 1);
        assert_eq!(read(text.replace("10.0.0.2", "10.0.0.7").as_bytes(), "boot"), Err(2));
    }
}
