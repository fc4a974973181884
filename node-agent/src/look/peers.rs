//! The other nodes, and the way to each range of their pods.
//!
//! Pure. Invariant: what is not well comes before all that is.

use super::links::Links;
use crate::problem::Problem;
use crate::view::{Path, Peer, View};
use heddle_proxy::door::shown::table;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::{self, Write};

/// Of more rows than these, the others are shown on request alone.
pub const MOST: usize = 20;
const HEAD: [&str; 4] = ["NODE", "RANGE", "MTU", "PATH"];

/// Node, range, MTU and path, and whether that is as it should be.
struct Row {
    cells: [String; 4],
    is_well: bool,
}

/// What is known of the way to one range.
struct Known<'a> {
    path: &'a Path,
    name: Option<String>,
    /// The largest packet that goes there, in bytes.
    mtu: Option<u32>,
    /// Of the problems about it.
    reasons: Vec<&'static str>,
}

impl<'a> Known<'a> {
    fn of((view, links): (&View, &Links), node: &str, path: &'a Path) -> Self {
        let is_without = path.way.is_none();
        let about = view.problems.keys().filter(|problem| {
            problem.is_about(node, path.range) || is_without && matches!(problem, Problem::NoTunnels(_))
        });
        Self {
            path,
            name: path.way.map(|way| way.name(&links.name(way.link()))),
            mtu: links.mtu_of(path),
            reasons: about.map(Problem::reason).collect(),
        }
    }

    fn row(self, node: &str) -> Row {
        let is_well = self.name.is_some() && self.reasons.is_empty();
        let name = self.name.unwrap_or_else(|| "none".to_owned());
        let path = match &self.reasons[..] {
            [] => name,
            reasons => format!("{name} ({})", reasons.join(", ")),
        };
        let mtu = self.mtu.map_or_else(|| "-".to_owned(), |mtu| mtu.to_string());
        Row { cells: [node.to_owned(), self.path.range.to_string(), mtu, path], is_well }
    }

    fn json(&self) -> Value {
        json!({
            "range": self.path.range.to_string(),
            "kind": self.path.kind(),
            "path": self.name,
            "mtu": self.mtu,
            "problems": self.reasons,
        })
    }
}

/// How many there are, and a table of them.
pub(super) fn write(f: &mut impl Write, known: (&View, &Links), all: bool) -> fmt::Result {
    let peers = &known.0.peers;
    writeln!(f, "{:<12}{}", "peers", summary(known.0))?;
    let mut rows: Vec<Row> = peers.iter().flat_map(|(name, peer)| rows(known, name, peer)).collect();
    if rows.is_empty() {
        return Ok(());
    }
    rows.sort_by_key(|row| row.is_well);
    let shown = if all { rows.len() } else { rows.len().min(MOST) };
    let cells: Vec<[String; 4]> = rows[..shown].iter().map(|row| row.cells.clone()).collect();
    table(f, HEAD, &cells)?;
    match rows.len() - shown {
        0 => Ok(()),
        more => writeln!(f, "  ... and {more} more: --all shows them"),
    }
}

fn summary(view: &View) -> String {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    view.paths().for_each(|path| *kinds.entry(path.kind()).or_default() += 1);
    let ranges: usize = kinds.values().sum();
    let lost = kinds.remove("none").map(|count| format!("{count} not reached"));
    let kinds = kinds.iter().map(|(kind, count)| format!("{count} {kind}"));
    let kinds: Vec<String> = kinds.chain(lost).collect();
    let kinds = if kinds.is_empty() { String::new() } else { format!(": {}", kinds.join(", ")) };
    format!("{} nodes with {ranges} ranges{kinds}", view.peers.len())
}

fn rows(known: (&View, &Links), name: &str, peer: &Peer) -> Vec<Row> {
    if peer.paths.is_empty() {
        let cells = [name, "-", "-", "none (it has no pod ranges yet)"].map(str::to_owned);
        return vec![Row { cells, is_well: false }];
    }
    peer.paths.iter().map(|path| Known::of(known, name, path).row(name)).collect()
}

/// All of them, for programs.
pub(super) fn json(known: (&View, &Links)) -> Value {
    let peer = |(name, peer): (&std::sync::Arc<str>, &Peer)| {
        let paths = peer.paths.iter().map(|path| Known::of(known, name, path).json());
        json!({
            "node": &**name,
            "addresses": peer.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "paths": paths.collect::<Vec<_>>(),
        })
    };
    known.0.peers.iter().map(peer).collect()
}
