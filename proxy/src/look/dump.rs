//! Model, frontends, plan and kernel as sorted text or JSON.
//!
//! One thing a line, so that `grep` finds it and two dumps differ in the lines that they differ in.

mod difference;
mod model;

pub use difference::difference;

use super::Inside;
use crate::ebpf::plan::Leads;
use crate::ebpf::view::Line;
use crate::frontends::{Backends, Frontends};
use heddle_netlink::nft::{Table, TableFamily};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt::Write;

/// What is to be dumped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize)]
pub enum Part {
    /// What the cluster says.
    Model,
    /// What that means.
    Frontends,
    /// The tables that the kernel is to have.
    Plan,
    /// What sockets are told: each frontend with its row and slots.
    Sockets,
    /// The tables that it has, and what of them is not as planned.
    Kernel,
}

impl Part {
    /// What is dumped where nobody says what.
    pub const DEFAULT: [Self; 4] = [Self::Model, Self::Frontends, Self::Plan, Self::Sockets];

    fn title(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Frontends => "frontends",
            Self::Plan => "plan",
            Self::Sockets => "sockets",
            Self::Kernel => "kernel",
        }
    }
}

/// A table of the kernel, beside the wanted one.
#[derive(Clone, Debug)]
pub struct Compared {
    /// As it was read; `None` where there is none.
    pub have: Option<Table>,
    /// As it is to be.
    pub want: Table,
}

impl Compared {
    /// Reads the kernel's tables of every family, beside these.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn read(
        wanted: Vec<Table>,
        mut load: impl FnMut(TableFamily) -> Result<Option<Table>, heddle_netlink::Error>,
    ) -> Result<Vec<Self>, heddle_netlink::Error> {
        wanted.into_iter().map(|want| Ok(Self { have: load(want.family)?, want })).collect()
    }
}

/// A part of what the process believes, as text under its title. The kernel's part is not its to know.
pub fn text(inside: &Inside<'_>, part: Part) -> String {
    let mut text = heading(part);
    match part {
        Part::Model => text += &model::text(inside.model),
        Part::Frontends => text += &inside.frontends.to_string(),
        Part::Plan => inside.wanted.iter().for_each(|table| text += &table.to_string()),
        Part::Sockets => lines(inside).for_each(|line| text += &format!("{line}\n")),
        Part::Kernel => {}
    }
    text
}

/// The kernel's tables as text, and below each what of it is not as planned.
pub fn kernel_text(tables: &[Compared]) -> String {
    let mut text = heading(Part::Kernel);
    for table in tables {
        if let Some(have) = &table.have {
            text += &have.to_string();
        }
        let lines = difference(table.have.as_ref(), &table.want);
        let name = format!("table {} {}", table.want.family, table.want.name);
        if lines.is_empty() {
            text += &format!("# {name} is as planned\n");
        }
        for line in lines {
            // Writing into a string does not fail.
            let _ = writeln!(text, "# {name}: {line}");
        }
    }
    text
}

fn heading(part: Part) -> String {
    format!("== {} ==\n", part.title())
}

/// A part as JSON, with its title.
pub fn json(inside: &Inside<'_>, part: Part) -> (String, Value) {
    let value = match part {
        Part::Model => model::json(inside.model),
        Part::Frontends => frontends_json(inside.frontends),
        Part::Plan => inside.wanted.iter().map(|table| table_json(table)).collect(),
        Part::Sockets => lines(inside).map(|line| socket_json(&line)).collect(),
        Part::Kernel => Value::Null,
    };
    (part.title().to_owned(), value)
}

/// The kernel's tables as JSON, with the title of their part.
pub fn kernel_json(tables: &[Compared]) -> (String, Value) {
    let table = |table: &Compared| {
        json!({
            "table": table.have.as_ref().map(table_json),
            "family": table.want.family.keyword(),
            "difference": difference(table.have.as_ref(), &table.want),
        })
    };
    (Part::Kernel.title().to_owned(), tables.iter().map(table).collect())
}

fn frontends_json(frontends: &Frontends) -> Value {
    let mut all: Vec<Value> = Vec::new();
    for (frontend, owner, backends) in frontends.iter() {
        let rivals: Vec<String> = frontends.rivals(frontend).map(ToString::to_string).collect();
        all.push(json!({
            "frontend": frontend.to_string(),
            "service": owner.to_string(),
            "rivals": rivals,
            "reach": backends.reach.to_string(),
            "policy": format!("{:?}", backends.policy),
            "sourceRanges": backends.sources.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "affinitySeconds": backends.affinity.as_ref().map(|affinity| affinity.seconds),
            "cluster": endpoints(&backends.cluster),
            "local": endpoints(&backends.local),
            "unserved": unserved(backends),
        }));
    }
    all.into()
}

fn lines<'a>(inside: &Inside<'a>) -> impl Iterator<Item = Line<'a>> {
    inside.sockets.into_iter().flat_map(|sockets| sockets.lines())
}

fn socket_json(line: &Line<'_>) -> Value {
    let Leads { endpoints, affinity, refuses, not_for_pods } = line.leads;
    json!({
        "frontend": line.frontend.to_string(),
        "row": line.row,
        "slot": line.slot,
        "endpoints": self::endpoints(endpoints),
        "affinitySeconds": affinity.map(|(_, seconds)| seconds),
        "refuses": refuses,
        "notForPods": not_for_pods,
    })
}

fn unserved(backends: &Backends) -> Option<String> {
    backends.unserved().map(|unserved| format!("{unserved:?}"))
}

fn endpoints(list: &[crate::frontends::Endpoint]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn table_json(table: &Table) -> Value {
    let sets = table.sets.iter().map(|(name, set)| {
        let elements = set.elements.iter().map(|(key, data)| set.kind.show_element(&key, &data).to_string());
        (name.to_string(), elements.collect::<Vec<_>>().into())
    });
    let chains = table.chains.iter().map(|(name, chain)| {
        let rules = chain.rules.iter().map(|rule| difference::rule(rule, table.family));
        (name.to_string(), rules.collect::<Vec<_>>().into())
    });
    json!({
        "family": table.family.keyword(),
        "name": &*table.name,
        "dormant": table.dormant,
        "sets": sets.collect::<serde_json::Map<String, Value>>(),
        "chains": chains.collect::<serde_json::Map<String, Value>>(),
    })
}
