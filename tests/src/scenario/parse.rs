//! The text of a scenario as values, and what is wrong with it.

use crate::scenario::attempt::{OUTSIDE, attempt};
use crate::scenario::{Attempt, Outcomes};
use crate::traffic::Transport;
use heddle_proxy::config::CommandLine;
use heddle_proxy::nft::Settings;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The sections, in the order in which they stand.
const SECTIONS: [&str; 6] = ["topology", "proxy", "objects", "frontends", "nft", "traffic"];

/// Where and why a scenario cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct ParseError {
    /// Line number in the file, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

/// One situation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// The first line, without its `#`.
    pub title: String,
    /// The reference rows that fail with it, as in `kp:Z1`.
    pub proves: Vec<String>,
    /// The nodes; the programs' expectations are those of the first.
    pub nodes: Vec<Host>,
    /// The flags of every node's proxy.
    pub flags: Vec<String>,
    /// What they decide.
    pub settings: Settings,
    /// Kubernetes YAML.
    pub objects: String,
    /// What the programs' pure parts must print.
    pub outcomes: Outcomes,
    /// What clients see, in the order in which they try.
    pub traffic: Vec<Attempt>,
}

/// A node with what runs on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Name of the node.
    pub name: String,
    /// Addresses that it has besides those of its links.
    pub addresses: Vec<IpAddr>,
    /// Servers in the node's own network.
    pub servers: Vec<(Transport, u16)>,
    /// Its pods.
    pub pods: Vec<Pod>,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name, which is also what its servers answer.
    pub name: String,
    /// Its addresses, at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// Its servers.
    pub servers: Vec<(Transport, u16)>,
}

/// A line and its number.
pub(super) type Line<'a> = (usize, &'a str);

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// [`ParseError`] for the first line that does not fit.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let Divided { head, sections } = divide(text)?;
        let title = match head.first() {
            Some((_, line)) if line.starts_with("# ") => line[2..].trim().to_owned(),
            _ => return Err(ParseError { line: 1, what: "a scenario begins with `# what it is`".into() }),
        };
        let proves = head.iter().filter_map(|(_, line)| line.strip_prefix("proves:"));
        let proves = proves.flat_map(str::split_whitespace).map(str::to_owned).collect();
        let section = |name| sections.get(name).map(Vec::as_slice).unwrap_or_default();
        let text = |name| section(name).iter().map(|(_, line)| format!("{line}\n")).collect::<String>();
        let nodes = topology(section("topology"))?;
        let (flags, settings) = flags(section("proxy"))?;
        let traffic = traffic(section("traffic"))?;
        known_names(&nodes, &traffic)?;
        let outcomes = Outcomes { frontends: text("frontends"), nft: text("nft") };
        Ok(Self { title, proves, nodes, flags, settings, objects: text("objects"), outcomes, traffic })
    }
}

/// A file's lines, divided.
#[derive(Default)]
struct Divided<'a> {
    /// Before the first section.
    head: Vec<Line<'a>>,
    sections: BTreeMap<&'static str, Vec<Line<'a>>>,
}

fn divide(text: &str) -> Result<Divided<'_>, ParseError> {
    let mut divided = Divided::default();
    let mut current = None;
    for (line, text) in (1..).zip(text.lines()) {
        // A bare `---` divides YAML documents.
        if let Some(name) = text.strip_prefix("--- ") {
            let Some(name) = SECTIONS.into_iter().find(|known| *known == name.trim()) else {
                let what = format!("there is no section {name:?}, only {}", SECTIONS.join(", "));
                return Err(ParseError { line, what });
            };
            if divided.sections.insert(name, Vec::new()).is_some() {
                return Err(ParseError { line, what: format!("a second section {name}") });
            }
            current = Some(name);
            continue;
        }
        let lines = current.and_then(|name| divided.sections.get_mut(name));
        lines.unwrap_or(&mut divided.head).push((line, text));
    }
    Ok(divided)
}

/// Lines that say something: neither empty nor a comment.
fn told<'a>(lines: &'a [Line<'a>]) -> impl Iterator<Item = Line<'a>> {
    lines.iter().copied().filter(|(_, text)| !text.trim().is_empty() && !text.trim_start().starts_with('#'))
}

fn topology(lines: &[Line<'_>]) -> Result<Vec<Host>, ParseError> {
    let mut nodes: Vec<Host> = Vec::new();
    for (line, text) in told(lines) {
        let mut words = text.split_whitespace();
        let name = words.next().unwrap_or_default().to_owned();
        let (mut addresses, mut servers) = (Vec::new(), Vec::new());
        for word in words {
            match word.parse() {
                Ok(address) => addresses.push(address),
                Err(_) => servers.push(server(word).ok_or_else(|| ParseError {
                    line,
                    what: format!("{word:?} is neither an address nor a server such as tcp:8080"),
                })?),
            }
        }
        match nodes.last_mut() {
            Some(node) if text.starts_with(' ') => node.pods.push(Pod { name, addresses, servers }),
            _ if text.starts_with(' ') => {
                return Err(ParseError { line, what: format!("pod {name} stands on no node") });
            }
            _ => nodes.push(Host { name, addresses, servers, pods: Vec::new() }),
        }
    }
    Ok(nodes)
}

fn server(word: &str) -> Option<(Transport, u16)> {
    let (transport, port) = word.split_once(':')?;
    Some((transport_named(transport)?, port.parse().ok()?))
}

pub(super) fn transport_named(word: &str) -> Option<Transport> {
    [Transport::Tcp, Transport::Udp].into_iter().find(|transport| transport.to_string() == word)
}

/// The proxy's flags, and what they decide.
fn flags(lines: &[Line<'_>]) -> Result<(Vec<String>, Settings), ParseError> {
    let words = told(lines).flat_map(|(_, text)| text.split_whitespace()).map(str::to_owned);
    let flags: Vec<String> = words.collect();
    let line = lines.first().map_or(1, |(line, _)| *line);
    let all = ["heddle-proxy"].into_iter().chain(flags.iter().map(String::as_str));
    let config = CommandLine::read(all, "node").and_then(|line| line.config());
    let config = config.map_err(|error| ParseError { line, what: error.to_string() })?;
    Ok((flags, config.settings))
}

/// A line that begins with a space goes on where the last one ended.
fn traffic(lines: &[Line<'_>]) -> Result<Vec<Attempt>, ParseError> {
    let mut whole: Vec<(usize, String)> = Vec::new();
    for (line, text) in told(lines) {
        match whole.last_mut() {
            Some((_, begun)) if text.starts_with(' ') => *begun = format!("{begun} {}", text.trim()),
            _ => whole.push((line, text.to_owned())),
        }
    }
    whole.iter().map(|(line, text)| attempt((*line, text))).collect()
}

/// A misspelt name must not look like a broken network.
fn known_names(nodes: &[Host], traffic: &[Attempt]) -> Result<(), ParseError> {
    let pods = nodes.iter().flat_map(|node| &node.pods).map(|pod| pod.name.as_str());
    let names: BTreeSet<&str> =
        nodes.iter().map(|node| node.name.as_str()).chain(pods).chain([OUTSIDE]).collect();
    for attempt in traffic {
        if let Some(name) = attempt.names().find(|name| !names.contains(name)) {
            return Err(ParseError {
                line: attempt.line,
                what: format!("nobody in the topology is called {name:?}"),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Expected, Source, Target};

    const WHOLE: &str = "\
# A Service with one endpoint
proves: kp:Z1 kp:Z17

--- topology
node-1
    client  10.244.1.10
    web-1   10.244.1.11 fd00:244:0:1::11  tcp:8080 udp:53
node-2 192.0.2.7
--- proxy
--cluster-cidr 10.244.0.0/16
--masquerade-all
--- objects
kind: Service
---
kind: EndpointSlice
--- traffic
client tcp -> 10.96.0.10:80 = web-1, source kept
client udp x300 -> [fd00:96::10]:53 = web-1, source 10.0.0.1, spread 300±0
node-1 tcp -> 10.96.0.11:80 = refused
outside tcp+udp -> node-2:30080 [node-2]:30080
    via node-1
    = web-1, source node-2
";

    #[test]
    fn a_scenario_is_read_into_its_parts() {
        let scenario = Scenario::parse(WHOLE).unwrap();
        assert_eq!(scenario.title, "A Service with one endpoint");
        assert_eq!(scenario.proves, ["kp:Z1", "kp:Z17"]);
        assert_eq!(scenario.nodes[0].pods[1].servers, [(Transport::Tcp, 8080), (Transport::Udp, 53)]);
        assert_eq!(scenario.nodes[0].pods[1].addresses.len(), 2);
        assert_eq!(scenario.objects, "kind: Service\n---\nkind: EndpointSlice\n");
        assert_eq!(
            scenario.traffic[0].expected,
            Expected::Answers {
                endpoints: BTreeSet::from(["web-1".to_owned()]),
                source: Some(Source::Kept),
                spread: None,
            }
        );
        assert_eq!((scenario.traffic[1].count, scenario.traffic[1].line), (300, 18));
        assert_eq!(scenario.traffic[2].expected, Expected::Refused);
    }

    #[test]
    fn the_proxys_flags_and_a_nodes_addresses_are_read() {
        let scenario = Scenario::parse(WHOLE).unwrap();
        assert_eq!(scenario.flags, ["--cluster-cidr", "10.244.0.0/16", "--masquerade-all"]);
        assert!(scenario.settings.masquerade_all);
        assert_eq!(scenario.nodes[1].addresses, ["192.0.2.7".parse::<IpAddr>().unwrap()]);
        let unknown = Scenario::parse("# x\n--- proxy\n--frobnicate\n").unwrap_err();
        assert_eq!(unknown.line, 3);
    }

    #[test]
    fn a_line_goes_on_for_several_targets_and_transports() {
        let scenario = Scenario::parse(WHOLE).unwrap();
        let last = &scenario.traffic[3];
        assert_eq!(last.transports, [Transport::Tcp, Transport::Udp]);
        let target = |ipv6| Target::Node { name: "node-2".to_owned(), ipv6, port: 30080 };
        assert_eq!(last.to, [target(false), target(true)]);
        assert_eq!(last.via.as_deref(), Some("node-1"));
        assert!(
            matches!(&last.expected, Expected::Answers { source: Some(Source::Node(n)), .. } if n == "node-2")
        );
    }

    #[test]
    fn a_section_that_is_unknown_or_comes_twice_is_named() {
        let unknown = Scenario::parse("# x\n--- objets\n").unwrap_err();
        assert_eq!(unknown.line, 2);
        let twice = Scenario::parse("# x\n--- objects\n--- objects\n").unwrap_err();
        assert_eq!(twice.to_string(), "line 3: a second section objects");
    }
}
