//! A subject made slower on purpose, so that somebody can see what a regression check finds.
//!
//! It is no part of what any proxy does: rules in a table of their own, which every packet goes through that the client's node routes.
//! Invariant: none of them matches a packet, so what they change is how long one takes.

use super::Subject;
use crate::Failure;
use clap::ValueEnum;
use heddle_tests::lab::Node;
use heddle_tests::process::Invocation;
use std::fmt::Write as _;
use std::str::FromStr;

/// The table's name.
pub const TABLE: &str = "handicap";
/// So many take a packet some milliseconds.
const MOST: u32 = 100_000;

/// Whom, and by how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handicap {
    /// The subject.
    pub subject: Subject,
    /// Rules that each packet is compared with.
    pub rules: u32,
}

/// `nft=2000`, with the name that `--subjects` takes.
impl FromStr for Handicap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (subject, rules) = text.split_once('=').ok_or("this is not SUBJECT=RULES")?;
        let subject = Subject::from_str(subject, false)?;
        let rules = rules.parse().ok().filter(|rules| (1..=MOST).contains(rules));
        Ok(Self { subject, rules: rules.ok_or_else(|| format!("RULES is a number from 1 to {MOST}"))? })
    }
}

/// Loads so many rules.
///
/// # Errors
/// When nft refuses.
pub fn load(node: &Node, rules: u32) -> Result<(), Failure> {
    let done = Invocation::foreign("nft").args(["-f", "-"]).input(ruleset(rules)).run(node.namespace())?;
    if done.status.success() { Ok(()) } else { Err(format!("nft: {}", done.stderr).into()) }
}

/// Each asks for an address that documentation alone uses, before anything else looks at the packet.
fn ruleset(rules: u32) -> String {
    let head = "chain prerouting {\n    type filter hook prerouting priority -310;\n";
    let mut text = format!("table ip {TABLE} {{\n  {head}");
    for rule in 0..rules {
        writeln!(text, "    ip daddr 192.0.2.{} drop", rule % 254 + 1).expect("a string takes everything");
    }
    text + "  }\n}\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_and_how_much_are_said_by_name_and_number() {
        assert_eq!("nft=20".parse(), Ok(Handicap { subject: Subject::Nft, rules: 20 }));
        for (text, why) in [
            ("nft", "SUBJECT=RULES"),
            ("weather=3", "weather"),
            ("nft=0", "from 1 to"),
            ("nft=100001", "from 1 to"),
            ("nft=some", "from 1 to"),
        ] {
            let told = text.parse::<Handicap>().unwrap_err();
            assert!(told.contains(why), "{text}: {told}");
        }
    }

    #[test]
    fn no_rule_asks_for_a_whole_network_or_nobody() {
        let text = ruleset(300);
        assert_eq!(text.matches(" drop\n").count(), 300);
        assert!(text.contains("192.0.2.254 ") && !text.contains("192.0.2.0 ") && !text.contains(".255 "));
    }
}
