//! Other programs of this node that do what ours do, or undo it. Pure.

use super::check::{Check, list};
use super::facts::{Facts, Read};
use heddle_netlink::link::Link;

/// What was found of them, beside links.
#[derive(Clone, Debug)]
pub struct Others {
    /// Rules of kube-proxy are in the kernel.
    pub kube_proxy: Read<bool>,
    /// Tables of heddle-proxy are.
    pub heddle_proxy: Read<bool>,
    /// What systemd-networkd does to what it did not make; none where it does not run.
    pub networkd: Option<Networkd>,
}

impl Default for Others {
    fn default() -> Self {
        Self { kube_proxy: Ok(false), heddle_proxy: Ok(false), networkd: None }
    }
}

/// systemd-networkd's settings about what others made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Networkd {
    /// It removes their routes when it starts.
    pub routes: bool,
    /// It removes their routing rules.
    pub rules: bool,
}

impl Networkd {
    /// What its files say, in the order in which it reads them. What they leave out is on.
    pub fn read<'a>(files: impl IntoIterator<Item = &'a str>) -> Self {
        let mut found = Self { routes: true, rules: true };
        for line in files.into_iter().flat_map(str::lines) {
            let Some((key, value)) = line.split_once('=') else { continue };
            let is_off =
                ["no", "false", "0", "off", "n", "f"].contains(&value.trim().to_lowercase().as_str());
            match key.trim() {
                "ManageForeignRoutes" => found.routes = !is_off,
                "ManageForeignRoutingPolicyRules" => found.rules = !is_off,
                _ => {}
            }
        }
        found
    }
}

/// Judges them.
pub(super) fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![proxies(&facts.others)];
    checks.extend(networks(facts));
    checks.push(networkd(facts.others.networkd));
    checks
}

fn proxies(others: &Others) -> Check {
    const NAME: &str = "proxies";
    match (&others.kube_proxy, &others.heddle_proxy) {
        (Err(why), _) | (_, Err(why)) => Check::unread(NAME, why),
        (Ok(true), Ok(true)) => Check::warning(
            NAME,
            "rules of kube-proxy and of heddle-proxy are both there: what kube-proxy left goes first and leads to pods that are \
             gone.",
            "Remove kube-proxy's DaemonSet, then what it left: `heddle-proxy --cleanup --cleanup-kube-proxy`.",
        ),
        (Ok(true), Ok(false)) => Check::ok(NAME, "kube-proxy alone"),
        (Ok(false), Ok(true)) => Check::ok(NAME, "heddle-proxy alone"),
        (Ok(false), Ok(false)) => Check::ok(NAME, "none has rules here"),
    }
}

/// Links that networks of clusters make, by what their names are or begin with.
const NETWORKS: [(&str, &str); 12] = [
    ("flannel", "flannel"),
    ("cilium_", "Cilium"),
    ("lxc_health", "Cilium"),
    ("cali", "Calico"),
    ("vxlan.calico", "Calico"),
    ("vxlan-v6.calico", "Calico"),
    ("kube-bridge", "kube-router"),
    ("kube-dummy-if", "kube-router"),
    ("weave", "Weave"),
    ("antrea-gw", "Antrea"),
    ("ovn-k8s", "OVN"),
    ("ovs-system", "Open vSwitch"),
];

fn network_of(link: &Link) -> Option<&'static str> {
    let named = NETWORKS.iter().find(|(begin, _)| link.name.starts_with(begin)).map(|(_, network)| *network);
    // The kernel makes this one by itself, and leaves it down.
    named.or((link.name == "tunl0" && link.up).then_some("Calico or kube-router"))
}

fn networks(facts: &Facts) -> Vec<Check> {
    const NAME: &str = "other networks";
    let links = match &facts.links {
        Ok(links) => links,
        Err(why) => return vec![Check::unread(NAME, why)],
    };
    let mut faults = Vec::new();
    let found: Vec<(&Link, &str)> = links.iter().filter_map(|link| Some((link, network_of(link)?))).collect();
    if let Some((first, network)) = found.first() {
        faults.push(Check::warning(
            NAME,
            format!(
                "links of {network} are here ({}): its routes, rules and addresses may stand in the way of ours.",
                list(found.iter().map(|(link, _)| &link.name))
            ),
            format!(
                "Take {network} out of the cluster if it is there, then `ip link delete {}` and the like; a reboot removes all \
                 of it.",
                first.name
            ),
        ));
    }
    let strangers: Vec<&Link> = facts.pod_bridges().flat_map(|bridge| strangers(links, bridge)).collect();
    if !strangers.is_empty() {
        faults.push(Check::warning(
            NAME,
            format!(
                "pods that another plugin made are on the bridge of ours ({}): their addresses are not in our lease table.",
                list(strangers.iter().map(|link| &link.name))
            ),
            "Make those pods anew; `heddle-cni import-host-local` takes over the leases of host-local before.",
        ));
    }
    Check::or_ok(faults, NAME, "no link of another cluster's network is here")
}

/// Ports of a bridge that lead to pods of others.
fn strangers<'a>(links: &'a [Link], bridge: &'a Link) -> impl Iterator<Item = &'a Link> {
    links.iter().filter(|link| {
        link.master == Some(bridge.index)
            && link.kind.as_deref() == Some("veth")
            && !link.name.starts_with(heddle_cni::names::HOST_PREFIX)
    })
}

/// It flushes what it does not know when it starts again.
fn networkd(found: Option<Networkd>) -> Check {
    const NAME: &str = "systemd-networkd";
    let on = match found {
        None => {
            return Check::not_applicable(
                NAME,
                "it does not run, or its files are not mounted here (--root)",
            );
        }
        Some(Networkd { routes: false, rules: false }) => {
            return Check::ok(NAME, "it leaves others' routes and rules alone");
        }
        Some(Networkd { routes: true, rules: false }) => "routes",
        Some(Networkd { routes: false, rules: true }) => "routing rules",
        Some(Networkd { routes: true, rules: true }) => "routes and routing rules",
    };
    Check::warning(
        NAME,
        format!(
            "it removes {on} that it did not make whenever it starts anew; heddle-node puts its own back, others do not."
        ),
        "Write [Network], ManageForeignRoutes=no and ManageForeignRoutingPolicyRules=no, a line each, to \
         /etc/systemd/networkd.conf.d/heddle.conf.",
    )
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::{healthy, link, outcome};
    use super::*;
    use crate::doctor::check::Outcome;
    use heddle_netlink::link::LinkIndex;

    #[test]
    fn two_proxies_are_a_warning_and_one_is_none() {
        let of = |kube, heddle| {
            proxies(&Others { kube_proxy: Ok(kube), heddle_proxy: Ok(heddle), networkd: None }).outcome
        };
        assert_eq!(of(true, true), Outcome::Warning);
        assert!(
            [of(true, false), of(false, true), of(false, false)]
                .iter()
                .all(|outcome| *outcome == Outcome::Ok)
        );
        let hidden = Others { kube_proxy: Err("no right".to_owned()), ..Others::default() };
        assert_eq!(proxies(&hidden).outcome, Outcome::NotApplicable);
    }

    #[test]
    fn links_of_other_networks_are_known_by_their_names() {
        for name in
            ["flannel.1", "flannel-v6.1", "cilium_host", "cali0123", "vxlan.calico", "kube-bridge", "tunl0"]
        {
            let mut facts = healthy();
            facts.links.as_mut().unwrap().push(link(9, name, None));
            assert_eq!(outcome(&judge(&facts), "other networks"), Outcome::Warning, "{name}");
        }
        let mut facts = healthy();
        facts.links.as_mut().unwrap().push(Link { up: false, ..link(9, "tunl0", None) });
        assert_eq!(outcome(&judge(&facts), "other networks"), Outcome::Ok);
    }

    #[test]
    fn pods_of_another_plugin_on_our_bridge_are_told() {
        let mut facts = healthy();
        let stranger = Link { master: Some(LinkIndex(3)), ..link(9, "veth1234", Some("veth")) };
        facts.links.as_mut().unwrap().push(stranger);
        assert_eq!(outcome(&judge(&facts), "other networks"), Outcome::Warning);
    }

    /// cni:#27
    #[test]
    fn networkd_is_told_to_leave_routes_and_rules_alone() {
        let of = |files: &[&str]| networkd(Some(Networkd::read(files.iter().copied()))).outcome;
        let off = "[Network]\nManageForeignRoutes = no\nManageForeignRoutingPolicyRules=false\n";
        assert_eq!(of(&[off]), Outcome::Ok);
        assert_eq!(of(&[]), Outcome::Warning);
        assert_eq!(of(&["#ManageForeignRoutes=no\n"]), Outcome::Warning);
        assert_eq!(of(&[off, "ManageForeignRoutes=yes\n"]), Outcome::Warning);
        assert_eq!(networkd(None).outcome, Outcome::NotApplicable);
    }
}
