//! What the kernel can do, tried before anything is written.
//!
//! A trial is one transaction on a table of its own, whose last operation every kernel refuses: the kernel answers for each
//! part, loads the modules that it needs, and undoes all of it; nobody hears of it. It decides nothing about what follows.

use super::apply::Kernel;
use super::blame;
use super::ruleset::{self, MASQUERADE_LABEL};
use crate::frontends::IpFamily;
use heddle_netlink::nft::{
    CommitError, DataType, End, Field, Hook, HookKind, HookPoint, Name, Op, Policy, Sense, SetType,
    Statement, TableFamily, Transaction, Type,
};
use std::fmt;
use std::path::Path;

/// The table that never is.
const TABLE: &str = "heddle-proxy-trial";
const CHAIN: &str = "trial";
const NUMBERS: &str = "numbers";
const MARKS: &str = "marks";
const RANGES: &str = "ranges";
const ENDPOINTS: &str = "endpoints";

/// The families that can be routed, and the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// Those for which the kernel has everything.
    pub able: Vec<TableFamily>,
    /// Those for which it has not.
    pub unable: Vec<Unable>,
}

/// A family that cannot be routed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unable {
    /// The family.
    pub family: IpFamily,
    /// The options that the kernel was built without; none where it has no such addresses at all.
    pub lacks: Vec<&'static str>,
}

impl fmt::Display for Unable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.lacks[..] {
            [] => write!(f, "the kernel does not have {}, or it is switched off", self.family),
            lacks => write!(f, "for {} the kernel lacks {}", self.family, lacks.join(" and ")),
        }
    }
}

/// Tries what our tables need. Where the kernel's answer is of the moment, the family counts as able: its first write is
/// tried again, and says why it failed.
pub fn probe(kernel: &mut impl Kernel, has_ipv6: bool) -> Abilities {
    let mut abilities = Abilities { able: Vec::new(), unable: Vec::new() };
    for family in TableFamily::ALL {
        let exists = family == TableFamily::Ip || has_ipv6;
        let lacks = if exists { lacks(kernel, family) } else { Vec::new() };
        if exists && lacks.is_empty() {
            abilities.able.push(family);
        } else {
            abilities.unable.push(Unable { family: ruleset::ip_family(family), lacks });
        }
    }
    abilities
}

/// Whether IPv6 is there and switched on (`net.ipv6.conf.all.disable_ipv6`), by the files below `/proc`.
pub fn has_ipv6(proc: &Path) -> bool {
    let disabled = std::fs::read_to_string(proc.join("sys/net/ipv6/conf/all/disable_ipv6"));
    proc.join("net/if_inet6").exists() && !disabled.is_ok_and(|text| text.trim() == "1")
}

fn lacks(kernel: &mut impl Kernel, family: TableFamily) -> Vec<&'static str> {
    let (ops, options): (Vec<Op>, Vec<&str>) = needs(family).into_iter().unzip();
    let mut trial = Transaction { ops, ..Transaction::new(family, TABLE.into(), "") };
    trial.ops.push(Op::DeleteChain("none".into()));
    let Err(error) = kernel.commit(&trial) else { return Vec::new() };
    if !blame::speaks_of_content(&error) {
        return Vec::new();
    }
    let mut lacks = Vec::new();
    for at in refused(&error) {
        let Some(option) = options.get(at) else { break };
        if !lacks.contains(option) {
            lacks.push(option);
        }
        // What comes after a table, chain or set that is not there is refused for want of it.
        if !matches!(trial.ops[at], Op::AddRule(..)) {
            break;
        }
    }
    lacks
}

fn refused(error: &CommitError) -> impl Iterator<Item = usize> {
    error.refused.iter().map(|refused| refused.ops.start)
}

/// What our tables are made of, each with the option that a kernel needs for it.
fn needs(family: TableFamily) -> Vec<(Op, &'static str)> {
    let v4 = family == TableFamily::Ip;
    let of_family = |four: &'static str, six: &'static str| if v4 { four } else { six };
    let address = if v4 { Type::Ipv4Addr } else { Type::Ipv6Addr };
    let base = |name: &str, kind, point| {
        let hook = Hook { kind, point, priority: 0, policy: Policy::Accept };
        Op::AddChain(Name::from(name), Some(hook))
    };
    let set = |name: &str, key: &[Type], data| {
        let kind = SetType { key: key.to_vec(), data, dynamic: None, counted: false, comment: "".into() };
        Op::AddSet(Name::from(name), kind)
    };
    let rule = |statement| Op::AddRule(CHAIN.into(), vec![statement]);
    let nf_tables = of_family("CONFIG_NF_TABLES_IPV4", "CONFIG_NF_TABLES_IPV6");
    let endpoint = DataType::Cells(vec![address, Type::InetService]);
    let marked = DataType::Cells(vec![Type::Mark]);
    vec![
        (Op::AddTable, nf_tables),
        (base("filter", HookKind::Filter, HookPoint::Input), nf_tables),
        (base("nat", HookKind::Nat, HookPoint::Prerouting), "CONFIG_NFT_NAT"),
        (Op::AddChain(CHAIN.into(), None), nf_tables),
        (set(NUMBERS, &[Type::Slot], DataType::None), nf_tables),
        (set(MARKS, &[Type::InetProto], marked), nf_tables),
        (set(ENDPOINTS, &[Type::InetProto], endpoint), nf_tables),
        (set(RANGES, &[Type::InetProto, address], DataType::Ranges), "ranges in keys (version 5.6)"),
        (rule(Statement::StateNew), "CONFIG_NFT_CT"),
        (rule(Statement::SetLabel(MASQUERADE_LABEL)), "CONFIG_NF_CONNTRACK_LABELS"),
        (rule(Statement::SetCtMark(vec![Field::L4Proto], MARKS.into())), "CONFIG_NF_CONNTRACK_MARK"),
        (
            rule(Statement::Local(End::Destination, Sense::Is)),
            of_family("CONFIG_NFT_FIB_IPV4", "CONFIG_NFT_FIB_IPV6"),
        ),
        (rule(Statement::InSet(vec![Field::Random(2)], NUMBERS.into())), "CONFIG_NFT_NUMGEN"),
        (rule(Statement::Dnat(vec![Field::L4Proto], ENDPOINTS.into())), "CONFIG_NFT_NAT"),
        (rule(Statement::Masquerade), "CONFIG_NFT_MASQ"),
        (rule(Statement::Reject), of_family("CONFIG_NFT_REJECT_IPV4", "CONFIG_NFT_REJECT_IPV6")),
    ]
}
