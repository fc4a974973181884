//! The steps from what the kernel has to what it is to have.
//!
//! Pure. Tables come before routes, so that no packet to a new node is masqueraded; the device comes before what leaves by it,
//! and what replaces before what goes. Invariant: no step touches a route, a rule, a link or a table that is not ours.

mod overlay;

pub use overlay::OverlayStep;

use crate::plan::{Plan, place_of};
use crate::ruleset;
use crate::seen::{Seen, is_same_slot};
use heddle_netlink::nft::{Chain, Elements, Name, Op, Set, Table, TableFamily, Transaction};
use heddle_netlink::route::Route;
use heddle_netlink::rule::Rule;
use heddle_proxy::delta::Delta;

/// What to do with one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteStep {
    /// Make it where there is none with its destination and metric.
    Add(Route),
    /// Put it in the place of ours with its destination and metric.
    Replace(Route),
    /// Take it away.
    Delete(Route),
}

/// What to do with one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleStep {
    /// Make it.
    Add(Rule),
    /// Take it away.
    Delete(Rule),
}

/// All that is to be done, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// At most one for each family, each all or nothing.
    pub tables: Vec<Transaction>,
    /// Then the device, as far as routes need it.
    pub overlay: Vec<OverlayStep>,
    /// Then these.
    pub routes: Vec<RouteStep>,
    /// Then these.
    pub rules: Vec<RuleStep>,
    /// Then what routes have left.
    pub leaving: Vec<OverlayStep>,
}

impl Steps {
    /// True when the kernel has what it is to have.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
            && self.overlay.is_empty()
            && self.routes.is_empty()
            && self.rules.is_empty()
            && self.leaving.is_empty()
    }

    /// Adds what was done after these.
    pub fn join(&mut self, later: Self) {
        self.tables.extend(later.tables);
        self.overlay.extend(later.overlay);
        self.routes.extend(later.routes);
        self.rules.extend(later.rules);
        self.leaving.extend(later.leaving);
    }

    /// Whether there is more to be done once these are: what leaves by the device is planned when it is there.
    pub fn makes_device(&self) -> bool {
        self.overlay.iter().any(|step| matches!(step, OverlayStep::Make(_)))
    }
}

/// The steps.
pub fn diff(seen: &Seen, plan: &Plan) -> Steps {
    let tables = TableFamily::ALL.into_iter().filter_map(|family| {
        let ops = table_ops(seen.tables.get(&family), plan.tables.get(&family));
        (!ops.is_empty()).then(|| Transaction { ops, ..ruleset::transaction(family) })
    });
    let (overlay, leaving) = overlay::steps(seen.vxlan.device.as_ref(), plan.overlay.as_ref());
    let (routes, rules) = (route_steps(seen, plan), rule_steps(seen, plan));
    Steps { tables: tables.collect(), overlay, routes, rules, leaving }
}

fn rule_steps(seen: &Seen, plan: &Plan) -> Vec<RuleStep> {
    let missing = plan.rules.values().filter(|rule| !seen.rules.contains(rule)).copied().map(RuleStep::Add);
    let gone = seen.rules.iter().filter(|rule| plan.rules.get(&rule.from) != Some(rule));
    missing.chain(gone.copied().map(RuleStep::Delete)).collect()
}

fn route_steps(seen: &Seen, plan: &Plan) -> Vec<RouteStep> {
    let mut missing = plan.routes.clone();
    let (mut replaced, mut gone) = (Vec::new(), Vec::new());
    let (right, wrong): (Vec<&Route>, Vec<&Route>) =
        seen.ours().partition(|route| plan.routes.get(&place_of(route)) == Some(route));
    for route in right {
        missing.remove(&place_of(route));
    }
    for route in wrong {
        match missing.get(&place_of(route)) {
            Some(wanted) if is_same_slot(wanted, route) => {
                replaced.extend(missing.remove(&place_of(route)).map(RouteStep::Replace));
            }
            _ => gone.push(RouteStep::Delete(*route)),
        }
    }
    let added = missing.into_values().map(RouteStep::Add);
    added.chain(replaced).chain(gone).collect()
}

fn table_ops(have: Option<&Table>, want: Option<&Table>) -> Vec<Op> {
    match (have, want) {
        (_, None) => have.map(|_| Op::DeleteTable).into_iter().collect(),
        (None, Some(want)) => made_anew(want),
        (Some(have), Some(want)) if is_editable(have, want) => edits(have, want),
        (Some(_), Some(want)) => [vec![Op::DeleteTable], made_anew(want)].concat(),
    }
}

/// Whether only elements and rules differ. Sets and chains of another shape, or more of them, are not worth an order of
/// their own.
fn is_editable(have: &Table, want: &Table) -> bool {
    let shapes = |table: &Table| {
        let sets: Vec<_> = table.sets.iter().map(|(name, set)| (name.clone(), set.kind.clone())).collect();
        let chains: Vec<_> = table.chains.iter().map(|(name, chain)| (name.clone(), chain.hook)).collect();
        (table.dormant, sets, chains)
    };
    shapes(have) == shapes(want)
}

fn made_anew(want: &Table) -> Vec<Op> {
    let mut ops = vec![Op::AddTable];
    ops.extend(want.sets.iter().map(|(name, set)| Op::AddSet(name.clone(), set.kind.clone())));
    ops.extend(want.chains.iter().map(|(name, chain)| Op::AddChain(name.clone(), chain.hook)));
    let none = Elements::default();
    ops.extend(want.sets.iter().flat_map(|(name, set)| element_ops(name, &none, set)));
    ops.extend(want.chains.iter().flat_map(|(name, chain)| rule_ops(name, chain)));
    ops
}

fn edits(have: &Table, want: &Table) -> Vec<Op> {
    let elements = want.sets.iter().flat_map(|(name, set)| element_ops(name, &have.sets[name].elements, set));
    let changed = want.chains.iter().filter(|(name, chain)| have.chains[*name] != **chain);
    let rules = changed
        .flat_map(|(name, chain)| std::iter::once(Op::FlushChain(name.clone())).chain(rule_ops(name, chain)));
    elements.chain(rules).collect()
}

/// What goes before what comes: the kernel refuses a new range that overlaps an old one.
fn element_ops(name: &Name, have: &Elements, want: &Set) -> Vec<Op> {
    let delta = Delta::merge(have.iter(), want.elements.iter());
    let gone = delta.iter().filter_map(|(key, edit)| Some((key, edit.old.clone()?)));
    let come = delta.iter().filter_map(|(key, edit)| Some((key, edit.new.clone()?)));
    let gone = gone.map(|(key, data)| Op::DeleteElement(name.clone(), *key, data));
    gone.chain(come.map(|(key, data)| Op::AddElement(name.clone(), *key, data))).collect()
}

fn rule_ops<'a>(name: &'a Name, chain: &'a Chain) -> impl Iterator<Item = Op> + 'a {
    chain.rules.iter().map(|rule| Op::AddRule(name.clone(), rule.clone()))
}
