//! A table in nft's words.
//!
//! The text is what `nft -f` takes, sorted and with one element a line, so that two tables differ in the lines that they
//! differ in.

use super::table::{DataType, Policy, SetType, Table};
use super::value::{Cells, Data, Type};
use super::{TableFamily, statement, userdata};
use std::fmt;

impl SetType {
    /// One element in nft's words.
    pub fn show_element<'a>(&'a self, key: &'a Cells, data: &'a Data) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| {
            if let Data::Until(end) = data {
                return write!(f, "{}", key.show_range(end, &self.key));
            }
            write!(f, "{}", key.show(&self.key))?;
            match (data, &self.data) {
                (Data::None | Data::Until(_), _) => Ok(()),
                (Data::Goto(chain), _) => write!(f, " : goto {chain}"),
                (Data::Cells(cells), DataType::Cells(types)) => write!(f, " : {}", cells.show(types)),
                (Data::Cells(cells), _) => write!(f, " : {cells:?}"),
            }
        })
    }

    /// `set` or `map`.
    pub fn keyword(&self) -> &'static str {
        if matches!(self.data, DataType::None | DataType::Ranges) { "set" } else { "map" }
    }

    /// The declaration of keys and data in nft's words.
    pub fn show(&self, family: TableFamily) -> impl fmt::Display + '_ {
        fmt::from_fn(move |f| {
            let slots = self.key.contains(&Type::Slot);
            f.write_str(if slots { "typeof " } else { "type " })?;
            write_types(&self.key, slots.then_some(family), f)?;
            match &self.data {
                DataType::None | DataType::Ranges => Ok(()),
                DataType::Verdict => f.write_str(" : verdict"),
                DataType::Cells(types) => {
                    f.write_str(" : ")?;
                    write_types(types, slots.then_some(family), f)
                }
            }
        })
    }
}

/// The types by name, or, for a map with slots, as the expressions that fill them.
fn write_types(
    types: &[Type],
    typeof_family: Option<TableFamily>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    for (i, kind) in types.iter().enumerate() {
        if i > 0 {
            f.write_str(" . ")?;
        }
        match (typeof_family, kind) {
            (None, kind) => f.write_str(kind.keyword())?,
            (Some(family), Type::Ipv4Addr | Type::Ipv6Addr) => write!(f, "{family} daddr")?,
            (Some(_), Type::InetProto) => f.write_str("meta l4proto")?,
            (Some(_), Type::Mark) => f.write_str("ct mark")?,
            (Some(_), Type::InetService) => f.write_str("th dport")?,
            (Some(_), Type::Slot) => write!(f, "numgen random mod {}", userdata::TYPEOF_MODULUS)?,
        }
    }
    Ok(())
}

/// The whole table as nft text, sorted, one element a line.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table {} {} {{", self.family, self.name)?;
        if self.dormant {
            writeln!(f, "\tflags dormant")?;
        }
        for (name, set) in &self.sets {
            writeln!(f, "\t{} {name} {{", set.kind.keyword())?;
            writeln!(f, "\t\t{}", set.kind.show(self.family))?;
            if set.kind.data == DataType::Ranges {
                writeln!(f, "\t\tflags interval")?;
            }
            if let Some(size) = set.kind.dynamic {
                writeln!(f, "\t\tsize {size}\n\t\tflags dynamic,timeout")?;
            }
            if set.kind.counted {
                writeln!(f, "\t\tcounter")?;
            }
            if !set.kind.comment.is_empty() {
                writeln!(f, "\t\tcomment \"{}\"", set.kind.comment)?;
            }
            if !set.elements.is_empty() {
                writeln!(f, "\t\telements = {{")?;
                for (key, data) in set.elements.iter() {
                    writeln!(f, "\t\t\t{},", set.kind.show_element(&key, &data))?;
                }
                writeln!(f, "\t\t}}")?;
            }
            writeln!(f, "\t}}")?;
        }
        for (name, chain) in &self.chains {
            writeln!(f, "\tchain {name} {{")?;
            if let Some(hook) = chain.hook {
                let (kind, point) = (hook.kind.keyword(), hook.point.keyword());
                let policy = if hook.policy == Policy::Accept { "accept" } else { "drop" };
                writeln!(f, "\t\ttype {kind} hook {point} priority {}; policy {policy};", hook.priority)?;
            }
            for rule in &chain.rules {
                writeln!(f, "\t\t{}", statement::show(rule, self.family))?;
            }
            writeln!(f, "\t}}")?;
        }
        writeln!(f, "}}")
    }
}
