//! What the programs' pure parts print for a scenario, and the rewriting of a scenario's text under `BLESS=1`.

use crate::scenario::Scenario;
use heddle_proxy::agent::{Agent, Event};
use heddle_proxy::convert::Names;
use heddle_proxy::frontends::{Frontends, resolve};
use heddle_proxy::model::{Change, Kind, Model};
use heddle_proxy::nft::{FakeKernel, Nft};
use heddle_proxy::watch::documents::{Format, parse};
use std::fmt::{self, Write};
use std::net::IpAddr;

/// What a scenario's objects must give, as the scenario says or as the programs say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// The frontends that the model resolves to.
    pub frontends: String,
    /// The tables that end up in the kernel.
    pub nft: String,
}

/// The programs say something else than the scenario.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("section {section} is not what the programs give (BLESS=1 rewrites it):\n{difference}")]
pub struct Unexpected {
    /// The section.
    pub section: &'static str,
    /// The lines that differ, `-` for the scenario's and `+` for the programs'.
    pub difference: String,
}

impl Outcomes {
    /// Takes the scenario's objects through the whole pipeline, on a kernel in memory.
    pub fn of(scenario: &Scenario) -> Self {
        let node = scenario.nodes.first().map_or("", |node| node.name.as_str());
        let changes = changes(&scenario.objects, node);
        let mut agent = Agent::new(node, Nft::new(FakeKernel::default(), &scenario.settings));
        for change in changes {
            agent.take(Event::Change(change));
        }
        let retry = agent.sync();
        let mut nft = String::new();
        for table in agent.dataplane().kernel().tables.values() {
            print(&mut nft, table);
        }
        if retry.is_some() || agent.dataplane().set_aside().next().is_some() {
            nft.push_str("# the kernel refused a part\n");
        }
        let mut frontends = String::new();
        print(&mut frontends, &self::frontends(scenario));
        Self { frontends, nft }
    }

    /// Compares what the programs give with what the scenario says.
    ///
    /// # Errors
    /// [`Unexpected`] names the first section that differs.
    pub fn meet(&self, expected: &Self) -> Result<(), Unexpected> {
        let sections =
            [("frontends", &expected.frontends, &self.frontends), ("nft", &expected.nft, &self.nft)];
        for (section, want, got) in sections {
            same(section, want, got)?;
        }
        Ok(())
    }

    /// The scenario's text with these outcomes in it; everything else stays as it was written.
    pub fn bless(&self, text: &str) -> String {
        let mut blessed = String::new();
        let mut skipping = false;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("--- ") {
                skipping = matches!(name, "frontends" | "nft");
                if name == "traffic" {
                    let _ = write!(blessed, "--- frontends\n{}\n--- nft\n{}\n", self.frontends, self.nft);
                }
            }
            if !skipping {
                blessed.push_str(line);
                blessed.push('\n');
            }
        }
        blessed
    }
}

/// Compares two texts, but for empty lines.
///
/// # Errors
/// [`Unexpected`] with the lines that differ.
pub fn same(section: &'static str, want: &str, got: &str) -> Result<(), Unexpected> {
    let told = |text| str::lines(text).filter(|line| !line.trim().is_empty()).collect::<Vec<_>>();
    let (want, got) = (told(want), told(got));
    if want == got {
        return Ok(());
    }
    let (kept, difference) = (want.iter().zip(&got).take_while(|(a, b)| a == b).count(), &mut String::new());
    for line in want.iter().filter(|line| !got.contains(line)) {
        let _ = writeln!(difference, "- {line}");
    }
    for line in got.iter().filter(|line| !want.contains(line)) {
        let _ = writeln!(difference, "+ {line}");
    }
    let _ = write!(difference, "(the first {kept} lines agree)");
    Err(Unexpected { section, difference: difference.clone() })
}

/// What the scenario's objects resolve to on its first node.
pub(super) fn frontends(scenario: &Scenario) -> Frontends {
    resolved_on(scenario, scenario.nodes.first().map_or("", |node| node.name.as_str()))
}

/// What they resolve to on a node.
pub(super) fn resolved_on(scenario: &Scenario, node: &str) -> Frontends {
    resolve(&model_on(scenario, node), node)
}

/// The addresses that a node's object has.
pub(super) fn node_of(scenario: &Scenario, node: &str) -> Vec<IpAddr> {
    model_on(scenario, node).node().addresses.clone()
}

fn model_on(scenario: &Scenario, node: &str) -> Model {
    let mut model = Model::default();
    for change in changes(&scenario.objects, node) {
        model.apply(change);
    }
    model
}

/// What the manifests source would say about these objects; problems are the parser's tests' affair.
fn changes(objects: &str, node: &str) -> Vec<Change> {
    let parsed = parse(Format::Yaml, objects.as_bytes(), node, &mut Names::default());
    let applied = parsed.objects.into_iter().map(|(key, object)| object.applied(key));
    applied.chain([Kind::Service, Kind::Slice, Kind::Node, Kind::ServiceCidr].map(Change::Complete)).collect()
}

fn print(text: &mut String, what: &impl fmt::Display) {
    write!(text, "{what}").expect("a string takes all that is written to it");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blessing_changes_nothing_but_what_the_programs_print() {
        let text = "# x\n--- objects\na: 1\n---\nb: 2\n--- nft\nold\n--- traffic\na tcp -> 1.2.3.4:80 = a\n";
        let outcomes = Outcomes { frontends: "new 1\n".into(), nft: "new 2\n".into() };
        let blessed = outcomes.bless(text);
        let wanted = "# x\n--- objects\na: 1\n---\nb: 2\n--- frontends\nnew 1\n\n--- nft\nnew 2\n\n\
                      --- traffic\na tcp -> 1.2.3.4:80 = a\n";
        assert_eq!(blessed, wanted);
        assert_eq!(outcomes.bless(&blessed), wanted);
    }

    #[test]
    fn a_difference_shows_the_lines_of_both_sides() {
        let unexpected = same("nft", "a\nb\n", "a\n\nc\n").unwrap_err();
        assert_eq!(unexpected.difference, "- b\n+ c\n(the first 1 lines agree)");
        assert_eq!(same("nft", "a\n\n", "a"), Ok(()));
    }
}
