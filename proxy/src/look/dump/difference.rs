//! In what the kernel's table is not the planned one, in nft's words.

use heddle_netlink::nft::{Chain, Set, Table, TableFamily, statement};
use std::collections::BTreeSet;

/// What is wrong with the kernel's table, a line each: `+` is wanted and missing, `-` is there and not wanted. Elements of
/// dynamic maps are the packets' own.
pub fn difference(have: Option<&Table>, want: &Table) -> Vec<String> {
    let Some(have) = have else { return vec!["+ the whole table is missing".to_owned()] };
    let (has, wants) = (lines(have), lines(want));
    let missing = wants.difference(&has).map(|line| format!("+ {line}"));
    let unwanted = has.difference(&wants).map(|line| format!("- {line}"));
    let mut all: Vec<String> = missing.chain(unwanted).collect();
    all.sort_by(|a, b| a[2..].cmp(&b[2..]));
    all
}

/// A rule in nft's words.
pub(super) fn rule(rule: &[statement::Statement], family: TableFamily) -> String {
    statement::show(rule, family).to_string()
}

fn lines(table: &Table) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    lines.extend(table.dormant.then(|| "flags dormant".to_owned()));
    for (name, set) in &table.sets {
        lines.extend(set_lines(name, set, table.family));
    }
    for (name, chain) in &table.chains {
        lines.extend(chain_lines(name, chain, table.family));
    }
    lines
}

fn set_lines(name: &str, set: &Set, family: TableFamily) -> impl Iterator<Item = String> {
    let kind = format!("{} {name} {{ {}; }}", set.kind.keyword(), set.kind.show(family));
    let fixed = set.elements.iter().filter(|_| set.kind.dynamic.is_none());
    let elements =
        fixed.map(move |(key, data)| format!("element {name} {{ {} }}", set.kind.show_element(&key, &data)));
    [kind].into_iter().chain(elements)
}

/// The order of a chain's rules counts.
fn chain_lines(name: &str, chain: &Chain, family: TableFamily) -> impl Iterator<Item = String> {
    let hook = chain.hook.map_or_else(String::new, |hook| {
        let (kind, point) = (hook.kind.keyword(), hook.point.keyword());
        format!(" {{ type {kind} hook {point} priority {}; policy {:?}; }}", hook.priority, hook.policy)
            .to_lowercase()
    });
    let rules = chain.rules.iter().enumerate();
    let rules = rules.map(move |(i, rule)| format!("rule {name} {i}: {}", self::rule(rule, family)));
    [format!("chain {name}{hook}")].into_iter().chain(rules)
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_netlink::nft::Statement;

    #[test]
    fn what_is_missing_and_what_is_not_wanted_is_named() {
        let mut want = Table::new(TableFamily::Ip, "heddle-proxy");
        want.chains.insert("refuse".into(), Chain { hook: None, rules: vec![vec![Statement::Reject]] });
        let mut have = want.clone();
        assert!(difference(Some(&have), &want).is_empty());
        have.chains.insert("refuse".into(), Chain { hook: None, rules: vec![vec![Statement::Drop]] });
        assert_eq!(difference(Some(&have), &want), ["- rule refuse 0: drop", "+ rule refuse 0: reject"]);
        assert_eq!(difference(None, &want), ["+ the whole table is missing"]);
    }
}
