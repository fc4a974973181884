//! Whose fault a refusal is: from a refused operation to the frontends that want it.
//!
//! It decides nothing about what happens to them, and asks the kernel nothing.

use super::chains;
use super::plan::Plan;
use super::ruleset;
use super::shape::Shape;
use crate::frontends::{Affinity, Backends, Frontend, Frontends, Place, Reach};
use heddle_netlink::Errno;
use heddle_netlink::nft::{Cells, CommitError, Data, Op, RefusedOps};
use std::collections::BTreeMap;

/// Whether a refusal may be due to what was sent, rather than to the moment or to the process.
pub fn speaks_of_content(error: &CommitError) -> bool {
    const OF_THE_MOMENT: [Errno; 6] =
        [Errno::NOBUFS, Errno::NOMEM, Errno::BUSY, Errno::INTR, Errno::AGAIN, Errno::PERM];
    error.refused.first().is_some_and(|refused| !OF_THE_MOMENT.contains(&refused.why.errno))
}

/// The frontends that a refused transaction is due to, each with the reason. None when it is the table's own fault, or
/// when the kernel did not name operations.
pub fn suspects(error: &CommitError, plan: &Plan, wanted: &Frontends) -> BTreeMap<Frontend, String> {
    let exact = || error.refused.iter().filter(|refused| refused.ops.len() == 1);
    let plain = |refused: &&RefusedOps| {
        matches!(*refused.first, Op::AddElement(_, _, Data::None | Data::Cells(_) | Data::Until(_)))
    };
    // What is in a chain or goes to one may be refused for what was refused before it; plain elements stand alone.
    let independent = exact().take_while(plain).count().max(1);
    let mut suspects = BTreeMap::new();
    for refused in exact().take(independent) {
        let why = reason(refused, plan);
        for frontend in wanting(refused, plan, wanted) {
            suspects.entry(frontend).or_insert_with(|| why.clone());
        }
    }
    suspects
}

fn reason(refused: &RefusedOps, plan: &Plan) -> String {
    let what = match &*refused.first {
        Op::AddElement(set, key, data) => match plan.table().sets.get(set) {
            Some(known) => format!("element {} of {set}", known.kind.show_element(key, data)),
            None => format!("an element of {set}"),
        },
        Op::AddRule(chain, _) => format!("a rule of chain {chain}"),
        Op::AddChain(chain, _) | Op::FlushChain(chain) => format!("chain {chain}"),
        other => format!("{other:?}"),
    };
    let errno = std::io::Error::from(refused.why.errno);
    match &refused.why.text {
        Some(text) => format!("{what}: {text} ({errno})"),
        None => format!("{what}: {errno}"),
    }
}

/// All frontends of the plan's family that want the refused operation.
fn wanting(refused: &RefusedOps, plan: &Plan, wanted: &Frontends) -> Vec<Frontend> {
    // What the kernel says when it walks what a chain may reach (`nft_chain_validate`).
    let of_the_chain = matches!(refused.why.errno, Errno::OPNOTSUPP | Errno::MLINK | Errno::LOOP);
    match &*refused.first {
        Op::AddElement(_, _, Data::Goto(chain)) if of_the_chain => {
            among(plan, wanted, |frontend, backends| goes_through(frontend, backends, chain))
        }
        Op::AddElement(set, key, _) => match ruleset::frontend_of(plan.table().family, set, key) {
            Some(frontend) => vec![frontend],
            None => among(plan, wanted, |frontend, backends| shares(frontend, backends, (set, key), plan)),
        },
        Op::AddRule(chain, _) | Op::AddChain(chain, _) | Op::FlushChain(chain) => {
            among(plan, wanted, |frontend, backends| goes_through(frontend, backends, chain))
        }
        _ => Vec::new(),
    }
}

fn among(plan: &Plan, wanted: &Frontends, wants: impl Fn(&Frontend, &Backends) -> bool) -> Vec<Frontend> {
    let family = ruleset::ip_family(plan.table().family);
    let ours = wanted.iter().filter(|(frontend, ..)| frontend.place.family() == family);
    ours.filter(|(frontend, _, backends)| wants(frontend, backends)).map(|(frontend, ..)| *frontend).collect()
}

/// Whether the chain is the frontend's, together with all others of its shape or of its time of affinity.
fn goes_through(frontend: &Frontend, backends: &Backends, chain: &str) -> bool {
    let remembers = |affinity: &Affinity| &*chains::remember(affinity.seconds.get()).0 == chain;
    Shape::of(frontend, backends)
        .is_some_and(|shape| &*shape.name() == chain || backends.affinity.as_ref().is_some_and(remembers))
}

/// Whether the frontend is one of those for which the element is there, in a set whose keys are not frontends.
fn shares(frontend: &Frontend, backends: &Backends, (set, key): (&str, &Cells), plan: &Plan) -> bool {
    match set {
        ruleset::HAIRPIN => {
            let mut endpoints = backends.cluster.iter().chain(&*backends.local).filter(|e| e.local);
            endpoints.any(|endpoint| ruleset::hairpin_key(endpoint.address) == *key)
        }
        ruleset::CLUSTER_IPS => {
            let address = match frontend.place {
                Place::Address(address) => Some(Cells::default().address(address)),
                Place::Node(_) => None,
            };
            backends.reach == Reach::ClusterIp && address == Some(*key)
        }
        ruleset::AFFINITY_TIMES => {
            let mark = key.as_bytes().first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
            let port = mark.and_then(|mark| plan.affinities().port(mark));
            backends.affinity.as_ref().is_some_and(|affinity| Some(&*affinity.of) == port)
        }
        _ => false,
    }
}
