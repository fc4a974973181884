//! One line of a scenario's traffic: its grammar, and whether what clients saw is what it says.

use crate::scenario::ParseError;
use crate::scenario::parse::{Line, transport_named};
use crate::traffic::{Outcome, Transport};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// A repeated attempt must see every endpoint that is named. With this many attempts per endpoint, the chance that
/// random selection among four leaves one out is below one in a hundred million.
const ATTEMPTS_PER_ENDPOINT: usize = 20;

/// One line of the traffic section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Line number in the file.
    pub line: usize,
    /// The line itself.
    pub text: String,
    /// Name of the pod or node that tries, or `outside`.
    pub from: String,
    /// The transport.
    pub transport: Transport,
    /// How often.
    pub count: usize,
    /// To where.
    pub to: SocketAddr,
    /// With what outcome.
    pub expected: Expected,
}

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The client's own.
    Kept,
    /// This one.
    Is(IpAddr),
}

/// `FROM TRANSPORT [xCOUNT] -> ADDRESS:PORT = EXPECTED`
pub(super) fn attempt((line, text): Line<'_>) -> Result<Attempt, ParseError> {
    let wrong = |what: &str| ParseError { line, what: what.to_owned() };
    let (question, answer) = text.split_once(" = ").ok_or_else(|| wrong("no ` = ` before the outcome"))?;
    let (client, to) = question.split_once(" -> ").ok_or_else(|| wrong("no ` -> ` before the address"))?;
    let words: Vec<&str> = client.split_whitespace().collect();
    let (from, transport, count) = match words[..] {
        [from, transport] => (from, transport, "x1"),
        [from, transport, count] => (from, transport, count),
        _ => return Err(wrong("a client is `name tcp` or `name tcp x300`")),
    };
    let count =
        count.strip_prefix('x').and_then(|n| n.parse().ok()).ok_or_else(|| wrong("a count is `x300`"))?;
    let expected = expected(answer).map_err(|what| ParseError { line, what })?;
    if let Expected::Answers { endpoints, .. } = &expected
        && count > 1
        && count < endpoints.len() * ATTEMPTS_PER_ENDPOINT
    {
        return Err(wrong("too few attempts to see every endpoint: 20 for each, or a single one"));
    }
    Ok(Attempt {
        line,
        text: text.trim().to_owned(),
        from: from.to_owned(),
        transport: transport_named(transport).ok_or_else(|| wrong("the transport is tcp or udp"))?,
        count,
        to: to.trim().parse().map_err(|_| wrong("the target is an address and a port"))?,
        expected,
    })
}

/// `refused`, `timeout`, `unreachable`, or `NAME | NAME[, source kept|ADDRESS][, spread COUNT±OFF]`
fn expected(text: &str) -> Result<Expected, String> {
    let mut parts = text.split(',').map(str::trim);
    let names = parts.next().unwrap_or_default();
    let (mut source, mut spread) = (None, None);
    for part in parts {
        match part.split_once(' ') {
            Some(("source", "kept")) => source = Some(Source::Kept),
            Some(("source", address)) => {
                let address = address.parse().map_err(|_| format!("{address:?} is no source address"))?;
                source = Some(Source::Is(address));
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
    /// Whether the outcomes of one line of traffic are what it says; `own` is the client's address.
    pub(super) fn fits(&self, got: &BTreeMap<Outcome, usize>, own: Option<IpAddr>) -> bool {
        let only = |outcome| got.keys().eq([outcome]);
        let (endpoints, source, spread) = match self {
            Self::Refused => return only(&Outcome::Refused),
            Self::Timeout => return only(&Outcome::Timeout),
            Self::Unreachable => return only(&Outcome::Unreachable),
            Self::Answers { endpoints, source, spread } => (endpoints, source, spread),
        };
        let mut counts = BTreeMap::<&str, usize>::new();
        for (outcome, count) in got {
            let right_source = match source {
                None => true,
                Some(Source::Kept) => outcome.source() == own,
                Some(Source::Is(address)) => outcome.source() == Some(*address),
            };
            match outcome.endpoint() {
                Some(name) if right_source && endpoints.contains(name) => {
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

    pub(super) fn fits(expected: &str, got: &[(&str, &str, usize)]) -> bool {
        let text = format!(
            "# x\n--- topology\nnode-1\n  a\n  b\n--- traffic\na tcp x100 -> 10.96.0.10:80 = {expected}\n"
        );
        let scenario = Scenario::parse(&text).unwrap();
        let got = got.iter().map(|(endpoint, source, count)| {
            (Outcome::Answer { endpoint: (*endpoint).into(), source: source.parse().unwrap() }, *count)
        });
        scenario.traffic[0].expected.fits(&got.collect(), Some(CLIENT.parse().unwrap()))
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
    }

    #[test]
    fn a_spread_has_bounds_on_both_sides() {
        assert!(fits("a | b, spread 50±10", &[("a", CLIENT, 60), ("b", CLIENT, 40)]));
        assert!(!fits("a | b, spread 50±10", &[("a", CLIENT, 61), ("b", CLIENT, 39)]));
    }

    fn fault(traffic: &str) -> String {
        let text = format!("# x\n--- topology\nnode-1\n  a 10.244.1.1\n--- traffic\n{traffic}\n");
        Scenario::parse(&text).unwrap_err().to_string()
    }

    #[test]
    fn a_line_that_does_not_fit_is_named() {
        assert_eq!(fault("a tcp 10.96.0.10:80 = a"), "line 6: no ` -> ` before the address");
        assert_eq!(fault("a icmp -> 10.96.0.10:80 = a"), "line 6: the transport is tcp or udp");
        assert_eq!(fault("a tcp -> 10.96.0.10 = a"), "line 6: the target is an address and a port");
        assert_eq!(fault("b tcp -> 10.96.0.10:80 = a"), "line 6: nobody in the topology is called \"b\"");
        assert_eq!(
            fault("a tcp -> 10.96.0.10:80 = refusd"),
            "line 6: nobody in the topology is called \"refusd\""
        );
        assert_eq!(fault("a tcp x2 -> 1.2.3.4:80 = a").matches("too few attempts").count(), 1);
        assert_eq!(
            fault("a tcp -> 1.2.3.4:80 = a, sauce kept"),
            "line 6: \"sauce kept\" is neither a source nor a spread"
        );
    }
}
