//! What one line of a scenario's traffic must give, and whether what clients saw is that.

use crate::traffic::Outcome;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What an attempt must give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// A refusal, at once.
    Refused,
    /// No answer.
    Timeout,
    /// No way.
    Unreachable,
    /// An answer from one of these; from each of them when it is tried more than once.
    Answers {
        /// Names of the servers.
        endpoints: BTreeSet<String>,
        /// Which source address they must see, if it matters.
        source: Option<Source>,
        /// How many answers each must give, and how far it may be off.
        spread: Option<(usize, usize)>,
    },
}

/// Which source address a server must see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The client's own.
    Kept,
    /// This one.
    Is(IpAddr),
    /// The one that this node gives to what it masquerades: that of the link towards the endpoint.
    Node(String),
}

/// `refused`, `timeout`, `unreachable`, or `NAME | NAME[, source kept|ADDRESS|NODE][, spread COUNT±OFF]`
pub(super) fn expected(text: &str) -> Result<Expected, String> {
    let mut parts = text.split(',').map(str::trim);
    let names = parts.next().unwrap_or_default();
    let (mut source, mut spread) = (None, None);
    for part in parts {
        match part.split_once(' ') {
            Some(("source", "kept")) => source = Some(Source::Kept),
            Some(("source", address)) if !address.contains(' ') => {
                source = Some(match address.parse() {
                    Ok(address) => Source::Is(address),
                    Err(_) => Source::Node(address.to_owned()),
                });
            }
            Some(("spread", numbers)) => {
                let numbers =
                    numbers.split_once('±').and_then(|(n, off)| Some((n.parse().ok()?, off.parse().ok()?)));
                spread = Some(numbers.ok_or_else(|| format!("{part:?} is not like `spread 100±40`"))?);
            }
            _ => return Err(format!("{part:?} is neither a source nor a spread")),
        }
    }
    Ok(match names {
        "refused" => Expected::Refused,
        "timeout" => Expected::Timeout,
        "unreachable" => Expected::Unreachable,
        _ => {
            let endpoints = names.split('|').map(|name| name.trim().to_owned()).collect();
            Expected::Answers { endpoints, source, spread }
        }
    })
}

impl Expected {
    /// Every name that must be in the topology.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let (endpoints, source) = match self {
            Self::Answers { endpoints, source, .. } => (Some(endpoints), source.as_ref()),
            _ => (None, None),
        };
        let node = source.and_then(|source| match source {
            Source::Node(name) => Some(name.as_str()),
            _ => None,
        });
        endpoints.into_iter().flatten().map(String::as_str).chain(node)
    }

    /// Whether the outcomes of one attempt are what it says; `address` tells which one a source is, for an endpoint.
    pub(super) fn fits(
        &self,
        got: &BTreeMap<Outcome, usize>,
        address: impl Fn(&Source, &str) -> Option<IpAddr>,
    ) -> bool {
        let only = |outcome| got.keys().eq([outcome]);
        let (endpoints, source, spread) = match self {
            Self::Refused => return only(&Outcome::Refused),
            Self::Timeout => return only(&Outcome::Timeout),
            Self::Unreachable => return only(&Outcome::Unreachable),
            Self::Answers { endpoints, source, spread } => (endpoints, source, spread),
        };
        let mut counts = BTreeMap::<&str, usize>::new();
        for (outcome, count) in got {
            let right = |name: &str| source.as_ref().is_none_or(|s| outcome.source() == address(s, name));
            match outcome.endpoint() {
                Some(name) if endpoints.contains(name) && right(name) => {
                    *counts.entry(name).or_default() += count;
                }
                _ => return false,
            }
        }
        let repeated = got.values().sum::<usize>() > 1;
        let all_seen = !repeated || counts.len() == endpoints.len();
        let even = |count: &usize| spread.is_none_or(|(mean, off)| count.abs_diff(mean) <= off);
        all_seen && counts.values().all(even)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    const CLIENT: &str = "10.244.1.10";

    fn fits(expected: &str, got: &[(&str, &str, usize)]) -> bool {
        let text = format!(
            "# x\n--- topology\nnode-1\n  a\n  b\n--- traffic\na tcp x100 -> 10.96.0.10:80 = {expected}\n"
        );
        let scenario = Scenario::parse(&text).unwrap();
        let got = got.iter().map(|(endpoint, source, count)| {
            (Outcome::Answer { endpoint: (*endpoint).into(), source: source.parse().unwrap() }, *count)
        });
        let address = |source: &Source, endpoint: &str| match (source, endpoint) {
            (Source::Kept, _) => CLIENT.parse().ok(),
            (Source::Is(address), _) => Some(*address),
            (Source::Node(_), "a") => "10.244.1.1".parse().ok(),
            (Source::Node(_), _) => "192.168.0.11".parse().ok(),
        };
        scenario.traffic[0].expected.fits(&got.collect(), address)
    }

    #[test]
    fn each_named_endpoint_must_answer_and_no_other() {
        assert!(fits("a | b", &[("a", CLIENT, 60), ("b", CLIENT, 40)]));
        assert!(!fits("a | b", &[("a", CLIENT, 100)]));
        assert!(!fits("a", &[("a", CLIENT, 99), ("b", CLIENT, 1)]));
    }

    #[test]
    fn a_source_that_was_rewritten_is_not_kept() {
        assert!(fits("a, source kept", &[("a", CLIENT, 100)]));
        assert!(!fits("a, source kept", &[("a", CLIENT, 99), ("a", "10.244.1.1", 1)]));
        assert!(fits("a, source 10.244.1.1", &[("a", "10.244.1.1", 100)]));
        assert!(fits("a | b, source node-1", &[("a", "10.244.1.1", 50), ("b", "192.168.0.11", 50)]));
        assert!(!fits("a | b, source node-1", &[("a", "192.168.0.11", 50), ("b", "192.168.0.11", 50)]));
    }

    #[test]
    fn a_spread_has_bounds_on_both_sides() {
        assert!(fits("a | b, spread 50±10", &[("a", CLIENT, 60), ("b", CLIENT, 40)]));
        assert!(!fits("a | b, spread 50±10", &[("a", CLIENT, 61), ("b", CLIENT, 39)]));
    }
}
