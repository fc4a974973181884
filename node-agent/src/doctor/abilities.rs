//! Whether this process may look, and what the kernel can do. Pure.

use super::check::{Check, list};
use super::facts::{Facts, Read};
use heddle_proxy::frontends::IpFamily;
use heddle_proxy::nft::probe::Unable;

/// What was found out by trials that leave nothing behind.
#[derive(Clone, Debug)]
pub struct Abilities {
    /// The process has `CAP_NET_ADMIN`.
    pub admin: Read<bool>,
    /// The kernel's release, such as `6.1.0-13-amd64`.
    pub release: String,
    /// The families for which nf_tables lacks something.
    pub nf_tables: Read<Vec<Unable>>,
    /// The kernel can make VXLAN links.
    pub vxlan: Read<bool>,
    /// The kernel has IPv6, and it is not switched off.
    pub ipv6: bool,
}

/// Our tables have ranges in keys of two parts, which came with this version.
const OLDEST: (u32, u32) = (5, 6);
const ANSWERED: &str = "load the module or take a kernel that has it";

/// Judges them.
pub(super) fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![rights(&facts.abilities.admin), release(&facts.abilities.release)];
    checks.extend(nf_tables(&facts.abilities.nf_tables));
    checks.push(vxlan(&facts.abilities.vxlan));
    checks.push(ipv6(facts));
    checks
}

fn rights(admin: &Read<bool>) -> Check {
    const NAME: &str = "rights";
    match admin {
        Ok(true) => Check::ok(NAME, "CAP_NET_ADMIN is there"),
        Ok(false) => Check::failed(
            NAME,
            "this process has no CAP_NET_ADMIN: it cannot read the node's tables, and heddle-node could not write them.",
            "Run it as root, or in heddle-node's own pod: `kubectl exec`.",
        ),
        Err(why) => Check::unread(NAME, why),
    }
}

fn release(release: &str) -> Check {
    const NAME: &str = "kernel";
    match version(release) {
        None => Check::not_applicable(NAME, format!("{release} is no version that can be compared")),
        Some(version) if version >= OLDEST => Check::ok(NAME, release),
        Some(_) => Check::failed(
            NAME,
            format!(
                "Linux {release} is older than 5.6, whose nf_tables cannot hold our tables: nothing is masqueraded."
            ),
            "Take a newer kernel.",
        ),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// What only a proxy needs is no fault of the pods' network.
fn nf_tables(found: &Read<Vec<Unable>>) -> Vec<Check> {
    const NAME: &str = "nf_tables";
    let unable = match found {
        Ok(unable) => unable.iter().filter(|unable| !unable.lacks.is_empty()),
        Err(why) => return vec![Check::unread(NAME, why)],
    };
    let fault = |Unable { family, lacks }: &Unable| {
        let (ours, proxys): (Vec<&str>, Vec<&str>) = lacks.iter().partition(|option| is_needed_here(option));
        let remedy = format!("Take a kernel with {}, or load the modules.", list(lacks));
        if ours.is_empty() {
            let found = format!("for {family} the kernel lacks {}, which heddle-proxy needs.", list(proxys));
            return Check::warning(NAME, found, remedy);
        }
        let found = format!(
            "for {family} the kernel lacks {}: what leaves the cluster is not masqueraded.",
            list(ours)
        );
        Check::failed(NAME, found, remedy)
    };
    Check::or_ok(unable.map(fault).collect(), NAME, "sets, masquerade and all that a proxy needs")
}

fn is_needed_here(option: &str) -> bool {
    ["CONFIG_NF_TABLES", "CONFIG_NFT_NAT", "CONFIG_NFT_MASQ", "ranges"]
        .iter()
        .any(|needed| option.starts_with(needed))
}

fn vxlan(found: &Read<bool>) -> Check {
    const NAME: &str = "vxlan";
    match found {
        Ok(true) => Check::ok(NAME, "the kernel can make VXLAN links"),
        Ok(false) => Check::warning(
            NAME,
            "the kernel has no VXLAN: pods of nodes behind a router cannot be reached.",
            format!("`modprobe vxlan`: {ANSWERED}; nodes on one link need none."),
        ),
        Err(why) => Check::unread(NAME, why),
    }
}

fn ipv6(facts: &Facts) -> Check {
    const NAME: &str = "ipv6";
    let has_pods = facts.pod_ranges().any(|range| range.is_ipv6());
    match (facts.abilities.ipv6, has_pods) {
        (true, _) => Check::ok(NAME, format!("the kernel has {}", IpFamily::V6)),
        (false, false) => Check::not_applicable(NAME, "the kernel has none, and no node has such pods"),
        (false, true) => Check::failed(
            NAME,
            "nodes have IPv6 pods and this kernel has no IPv6, or it is switched off: they are not reached.",
            "Remove `ipv6.disable=1` from the kernel's command line, and set net.ipv6.conf.all.disable_ipv6 to 0.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::{healthy, outcome};
    use super::*;
    use crate::doctor::check::Outcome;

    #[test]
    fn a_process_without_rights_is_told_and_what_it_cannot_read_is_no_fault() {
        let mut facts = healthy();
        facts.abilities.admin = Ok(false);
        facts.abilities.nf_tables = Err("no right".to_owned());
        facts.abilities.vxlan = Err("no right".to_owned());
        let checks = judge(&facts);
        assert_eq!(outcome(&checks, "rights"), Outcome::Failed);
        assert_eq!(outcome(&checks, "nf_tables"), Outcome::NotApplicable);
        assert_eq!(outcome(&checks, "vxlan"), Outcome::NotApplicable);
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        let of = |text| release(text).outcome;
        assert_eq!(of("6.1.0-13-amd64"), Outcome::Ok);
        assert_eq!(of("5.6"), Outcome::Ok);
        assert_eq!(of("5.4.0-1"), Outcome::Failed);
        assert_eq!(of("custom"), Outcome::NotApplicable);
    }

    #[test]
    fn what_a_proxy_alone_needs_is_a_warning() {
        let lacks = |lacks| Ok(vec![Unable { family: IpFamily::V4, lacks }]);
        let of = |found: Read<Vec<Unable>>| nf_tables(&found)[0].outcome;
        assert_eq!(of(lacks(vec!["CONFIG_NFT_NUMGEN"])), Outcome::Warning);
        assert_eq!(of(lacks(vec!["CONFIG_NFT_NUMGEN", "CONFIG_NFT_MASQ"])), Outcome::Failed);
        // A family that the kernel does not have at all is another check's.
        assert_eq!(of(lacks(vec![])), Outcome::Ok);
    }

    #[test]
    fn a_kernel_without_vxlan_is_a_warning_and_without_ipv6_a_fault_where_pods_have_it() {
        let mut facts = healthy();
        facts.abilities.vxlan = Ok(false);
        facts.abilities.ipv6 = false;
        let checks = judge(&facts);
        assert_eq!(outcome(&checks, "vxlan"), Outcome::Warning);
        assert_eq!(outcome(&checks, "ipv6"), Outcome::Failed);
        facts.cluster = Err("away".to_owned());
        assert_eq!(outcome(&judge(&facts), "ipv6"), Outcome::NotApplicable);
    }
}
