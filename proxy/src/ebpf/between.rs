//! Whether connections between the node's pods can do without tracking: what others' rules want of them, and when to look again.
//!
//! Pure. Invariant: nothing goes untracked that was not looked at since sockets lead all of it.

use crate::dataplane::Untracked;
use crate::nft::ruleset::{NODE_TABLE, TABLE};
use heddle_netlink::conntrack::Flow;
use heddle_netlink::nft::shared::Hooked;
use std::time::{Duration, Instant};
use tracing::info;

/// How soon it is looked again where connections are in the way, which end; and how often others' rules are looked at at most.
const SOON: Duration = Duration::from_secs(1);
/// How often it is looked while all is well: rules in `ip_tables` change unheard.
const PERIOD: Duration = Duration::from_secs(30);
/// The kernel's list of connections has a bucket for each 64 KiB of memory, up to 262 144, which take it some milliseconds.
const PENDING: Duration = Duration::from_millis(5);
/// `NF_INET_PRE_ROUTING`
const PREROUTING: u32 = 0;
/// `NF_INET_FORWARD` and `NF_INET_POST_ROUTING`
const BEHIND: [u32; 2] = [2, 4];
/// `NFPROTO_INET`, `NFPROTO_IPV4`, `NFPROTO_IPV6`
const ROUTED: [u8; 3] = [1, 2, 10];
/// `NFPROTO_BRIDGE`
const BRIDGED: u8 = 7;

/// Which nodes keep connections between their pods out of tracking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Untracking {
    /// None.
    #[default]
    Never,
    /// Those where no rule of others sees pods' packets.
    Alone,
    /// Those too where some do, unless they translate: these are said to need no tracking.
    BesideOthers,
}

/// What stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// Rules of others.
    Rules(String),
    /// So many connections that are still translated.
    Translated(usize),
    /// It could not be looked at, and why.
    Unknown(String),
}

/// What a look came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing yet.
    Pending,
    /// Nothing needs tracking.
    Clear,
    /// Something does.
    Hindered(Hindrance),
}

impl std::fmt::Display for Hindrance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rules(why) | Self::Unknown(why) => f.write_str(why),
            Self::Translated(1) => write!(f, "one of them is still translated"),
            Self::Translated(count) => write!(f, "{count} of them are still translated"),
        }
    }
}

/// The rules of others that stand in the way: those that may translate, and others unless they are said to need no tracking. `legacy` are
/// the tables of `ip_tables`, of whose rules nothing is known.
pub fn rules_in_the_way(hooked: &[Hooked], legacy: &[String], untracking: Untracking) -> Option<Hindrance> {
    let counts = |hooked: &&Hooked| {
        let Hooked { family, table, kind, hook, .. } = hooked;
        let others = !table.starts_with(TABLE) && table != NODE_TABLE;
        let translates = ROUTED.contains(family) && kind == "nat" && *hook == PREROUTING;
        let sees = (ROUTED.contains(family) || *family == BRIDGED)
            && (*hook == PREROUTING || BEHIND.contains(hook))
            && untracking == Untracking::Alone;
        others && (translates || sees)
    };
    let in_nf_tables = hooked.iter().find(counts).map(|Hooked { table, chain, .. }| {
        format!("chain {chain} of table {table} has rules that see their packets")
    });
    let found = in_nf_tables.or_else(|| {
        let table = legacy.iter().find(|name| *name == "nat" || untracking == Untracking::Alone)?;
        Some(format!("iptables-legacy has a table {table}, whose rules may see their packets"))
    });
    found.map(Hindrance::Rules)
}

/// Whether what answers a flow goes from pod to pod, whose rules would not see it.
pub fn answers(flow: &Flow, between: &[Untracked]) -> bool {
    let (from, to) = (flow.reply.source.ip(), flow.reply.destination.ip());
    between.iter().any(|between| between.network.contains(from))
        && between.iter().any(|between| between.network.contains(to) && !between.own.contains(&to))
}

/// What the last look came to, and when the next is due.
#[derive(Debug, Default)]
pub struct Between {
    /// What it came to; `None` before the first since sockets lead everything.
    seen: Option<Option<Hindrance>>,
    due: Option<Instant>,
    /// A look is pending.
    asked: bool,
    last: Option<Instant>,
    said: Option<Hindrance>,
}

impl Between {
    /// Nothing stands in the way.
    pub fn is_clear(&self) -> bool {
        self.seen == Some(None)
    }

    /// What does.
    pub fn hindrance(&self) -> Option<&Hindrance> {
        self.seen.as_ref()?.as_ref()
    }

    /// Whether the next look is a new one.
    pub fn asks_anew(&self) -> bool {
        !self.asked
    }

    /// When to look.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Sockets lead everything, or not any more: what packets begin meanwhile has to be looked for.
    pub fn want(&mut self, wanted: bool, now: Instant) {
        if !wanted {
            *self = Self { said: self.said.take(), last: self.last, ..Self::default() };
        } else if self.due.is_none() {
            self.due = Some(now);
        }
    }

    /// Others' rules changed. It is looked at once, unless that was just done.
    pub fn doubt(&mut self, now: Instant) {
        if let Some(due) = self.due {
            let soonest = self.last.map_or(now, |last| (last + SOON).max(now));
            self.due = Some(due.min(soonest));
        }
    }

    /// Takes in what a look came to.
    pub fn settle(&mut self, look: Look, now: Instant) {
        self.asked = look == Look::Pending;
        let found = match look {
            Look::Pending => return self.due = Some(now + PENDING),
            Look::Clear => None,
            Look::Hindered(hindrance) => Some(hindrance),
        };
        let wait = if matches!(found, Some(Hindrance::Translated(_))) { SOON } else { PERIOD };
        (self.due, self.last) = (Some(now + wait), Some(now));
        let is_news = match (&found, &self.said) {
            (Some(Hindrance::Translated(_)), Some(Hindrance::Translated(_))) => false,
            (found, said) => found != said,
        };
        if is_news {
            match &found {
                Some(why) => info!("connections between pods of this node are tracked: {why}"),
                None => info!("nothing needs connections between pods of this node to be tracked any more"),
            }
            self.said.clone_from(&found);
        }
        self.seen = Some(found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hooked(table: &str, (family, kind, hook): (u8, &str, u32)) -> Hooked {
        Hooked { family, table: table.into(), chain: "c".into(), kind: kind.into(), hook }
    }

    fn hinders(all: &[Hooked], legacy: &[&str], untracking: Untracking) -> bool {
        let legacy: Vec<String> = legacy.iter().map(|name| (*name).to_owned()).collect();
        rules_in_the_way(all, &legacy, untracking).is_some()
    }

    #[test]
    fn rules_that_see_pods_packets_hinder_unless_they_are_said_not_to_and_those_that_translate_always() {
        use Untracking::{Alone, BesideOthers};
        assert!(!hinders(&[], &[], Alone));
        for ours in [TABLE, NODE_TABLE] {
            assert!(!hinders(&[hooked(ours, (2, "nat", 0)), hooked(ours, (2, "nat", 4))], &[], Alone));
        }
        for sees in [(2, "filter", 2), (1, "filter", 0), (10, "nat", 4), (7, "filter", 2)] {
            let rules = [hooked("policies", sees)];
            assert_eq!((hinders(&rules, &[], Alone), hinders(&rules, &[], BesideOthers)), (true, false));
        }
        for elsewhere in [(2, "filter", 1), (2, "filter", 3), (5, "filter", 0), (3, "filter", 0)] {
            assert!(!hinders(&[hooked("firewall", elsewhere)], &[], Alone), "{elsewhere:?}");
        }
        for translates in [(2, "nat", 0), (1, "nat", 0), (10, "nat", 0)] {
            assert!(hinders(&[hooked("hostports", translates)], &[], BesideOthers));
        }
        assert!(hinders(&[], &["filter"], Alone) && !hinders(&[], &["filter"], BesideOthers));
        assert!(hinders(&[], &["filter", "nat"], BesideOthers));
    }

    #[test]
    fn it_is_looked_at_once_when_rules_change_but_not_all_the_time() {
        let (mut between, start) = (Between::default(), Instant::now());
        between.doubt(start);
        assert_eq!(between.due(), None, "nothing is wanted");
        between.want(true, start);
        assert_eq!((between.due(), between.is_clear()), (Some(start), false));
        between.settle(Look::Clear, start);
        assert_eq!((between.due(), between.is_clear()), (Some(start + PERIOD), true));
        between.doubt(start);
        assert_eq!(between.due(), Some(start + SOON));
        let later = start + 5 * SOON;
        between.settle(Look::Clear, start + SOON);
        between.doubt(later);
        assert_eq!(between.due(), Some(later));
        between.settle(Look::Hindered(Hindrance::Translated(2)), later);
        assert_eq!((between.due(), between.is_clear()), (Some(later + SOON), false));
        between.settle(Look::Pending, later);
        assert_eq!((between.due(), between.asks_anew()), (Some(later + PENDING), false));
        between.want(false, later);
        assert_eq!((between.due(), between.is_clear(), between.asks_anew()), (None, false, true));
    }
}
