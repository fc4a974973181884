//! What kube-proxy makes in the kernel, by name, and which of its chains may go.
//!
//! The names are those of kube-proxy 1.2x to 1.36. Not all that is called KUBE-…: kubelet has KUBE-FIREWALL,
//! KUBE-KUBELET-CANARY and KUBE-IPTABLES-HINT.

use heddle_netlink::nft::Name;
use heddle_netlink::nft::shared::{Cut, Shared};
use std::collections::BTreeSet;

/// The table of its nftables mode, in `ip` and `ip6`.
pub const TABLE: &str = "kube-proxy";
/// A chain that the table always has.
pub const NFT_SERVICES: &str = "services";
/// The tables of iptables in which it has chains.
pub const IPTABLES: [&str; 3] = ["nat", "filter", "mangle"];
/// The chain that its iptables and ipvs modes always have in `nat`.
pub const IPTABLES_SERVICES: &str = "KUBE-SERVICES";
/// The link of its ipvs mode that holds the addresses of Services.
pub const IPVS_LINK: &str = "kube-ipvs0";
/// How the names of its ipsets begin (`KUBE-CLUSTER-IP`, `KUBE-6-LOOP-BACK`, …); nobody else's do.
pub const SET_PREFIX: &str = "KUBE-";

/// Chains by their full names, of the iptables mode and of the ipvs mode.
const CHAINS: [&str; 13] = [
    IPTABLES_SERVICES,
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-NODEPORTS",
    POSTROUTING,
    MARK_MASQ,
    "KUBE-FORWARD",
    "KUBE-PROXY-FIREWALL",
    "KUBE-PROXY-CANARY",
    "KUBE-LOAD-BALANCER",
    "KUBE-NODE-PORT",
    "KUBE-SOURCE-RANGES-FIREWALL",
    "KUBE-IPVS-FILTER",
    "KUBE-IPVS-OUT-FILTER",
];
/// Chains of one Service or endpoint each.
const PREFIXES: [&str; 6] = ["KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-FW-", "KUBE-XLB-", "KUBE-EXT-"];
const MARK_MASQ: &str = "KUBE-MARK-MASQ";
const POSTROUTING: &str = "KUBE-POSTROUTING";

fn is_kube_proxys(chain: &str) -> bool {
    CHAINS.contains(&chain) || PREFIXES.iter().any(|prefix| chain.starts_with(prefix))
}

/// What of a table is kube-proxy's and nobody else's. A chain that another program's chain leads to stays, with what it
/// needs itself: the portmap plugin's `externalSetMarkChain`, for one, has KUBE-MARK-MASQ mark what KUBE-POSTROUTING then
/// masquerades.
pub fn cut(table: &Shared) -> Cut {
    let kept = needed_by_others(table);
    let goes = |chain: &Name| is_kube_proxys(chain) && !kept.contains(chain);
    let chains: BTreeSet<Name> = table.chains.keys().filter(|chain| goes(chain)).cloned().collect();
    let leads_in =
        table.jumps.iter().filter(|jump| chains.contains(&jump.to) && !chains.contains(&jump.chain));
    Cut { jumps: leads_in.cloned().collect(), chains }
}

fn needed_by_others(table: &Shared) -> BTreeSet<Name> {
    // A jump from a base chain is kube-proxy's own.
    let is_others = |chain: &Name| !is_kube_proxys(chain) && table.chains.get(chain) == Some(&false);
    let into = table.jumps.iter().filter(|jump| is_others(&jump.chain) && is_kube_proxys(&jump.to));
    let mut open: Vec<Name> = into.map(|jump| jump.to.clone()).collect();
    let mut kept = BTreeSet::new();
    while let Some(chain) = open.pop() {
        if &*chain == MARK_MASQ {
            open.extend(
                table
                    .chains
                    .keys()
                    .filter(|other| &***other == POSTROUTING && !kept.contains(*other))
                    .cloned(),
            );
        }
        let onward = table.jumps.iter().filter(|jump| jump.chain == chain && is_kube_proxys(&jump.to));
        open.extend(onward.map(|jump| jump.to.clone()).filter(|to| !kept.contains(to)));
        kept.insert(chain);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_netlink::nft::shared::Jump;

    /// A table from lines such as `PREROUTING! > KUBE-SERVICES`, where `!` says that it is a base chain.
    fn table(lines: &[&str]) -> Shared {
        let mut shared = Shared::default();
        for (handle, line) in (1..).zip(lines) {
            let (from, to) = line.split_once(" > ").unwrap();
            let chain = Name::from(from.trim_end_matches('!'));
            shared.chains.insert(chain.clone(), from.ends_with('!'));
            shared.chains.entry(to.into()).or_insert(false);
            shared.jumps.push(Jump { chain, handle, to: to.into() });
        }
        shared
    }

    fn names(cut: &Cut) -> Vec<&str> {
        cut.chains.iter().map(|name| &**name).collect()
    }

    fn handles(cut: &Cut) -> Vec<u64> {
        cut.jumps.iter().map(|jump| jump.handle).collect()
    }

    /// kp:I2
    #[test]
    fn its_chains_go_with_the_jumps_into_them_and_no_others() {
        let cut = cut(&table(&[
            "PREROUTING! > KUBE-SERVICES",
            "PREROUTING! > CNI-HOSTPORT-DNAT",
            "KUBE-SERVICES > KUBE-SVC-ABC",
            "KUBE-SVC-ABC > KUBE-SEP-DEF",
            "INPUT! > KUBE-FIREWALL",
            "POSTROUTING! > KUBE-POSTROUTING",
            "KUBE-KUBELET-CANARY > KUBE-IPTABLES-HINT",
        ]));
        assert_eq!(names(&cut), ["KUBE-POSTROUTING", "KUBE-SEP-DEF", "KUBE-SERVICES", "KUBE-SVC-ABC"]);
        assert_eq!(handles(&cut), [1, 6]);
    }

    #[test]
    fn what_another_program_leads_to_stays_with_what_it_needs() {
        let cut = cut(&table(&[
            "PREROUTING! > KUBE-SERVICES",
            "CNI-HOSTPORT-SETMARK > KUBE-MARK-MASQ",
            "KUBE-SERVICES > KUBE-MARK-MASQ",
            "POSTROUTING! > KUBE-POSTROUTING",
        ]));
        assert_eq!(names(&cut), ["KUBE-SERVICES"]);
        assert_eq!(handles(&cut), [1]);
    }

    #[test]
    fn a_table_without_its_chains_is_left_alone() {
        assert!(cut(&table(&["INPUT! > KUBE-FIREWALL", "MINE > YOURS"])).is_empty());
        assert!(cut(&Shared::default()).is_empty());
    }
}
