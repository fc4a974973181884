//! Everything that a node is judged by, read in one go. A value, and simple questions to it. Pure.
//!
//! Not what is right: each step judges its part. Invariant: what could not be read says why, and is judged by nobody.

use super::abilities::Abilities;
use super::cni::Cni;
use super::leases::Leases;
use super::mtu::Probed;
use super::others::Others;
use super::running::Running;
use crate::cluster::Cluster;
use crate::overlay::Vxlan;
use crate::plan::{self, Mode, Plan};
use crate::seen::Seen;
use heddle_cni::names::HOST_PREFIX;
use heddle_netlink::address::Address;
use heddle_netlink::link::{Link, LinkIndex};
use heddle_netlink::route::{Route, TABLE_MAIN};
use heddle_proxy::model::Node;
use ipnetwork::IpNetwork;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Something that was read, or why it could not be.
pub type Read<T> = Result<T, String>;

/// Kernel settings, by their paths below `/proc/sys/net`. What the kernel does not have is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sysctls(pub BTreeMap<String, String>);

impl Sysctls {
    /// Whether a setting has a value.
    pub fn says(&self, key: &str, value: &str) -> bool {
        self.0.get(key).is_some_and(|has| has == value)
    }

    /// A setting that is a number.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.0.get(key)?.parse().ok()
    }
}

/// What was read.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The name of our own node.
    pub node: Arc<str>,
    /// What the heddle-node that runs here says of itself; otherwise, how it was seen that none does.
    pub agent: Read<Running>,
    /// How other nodes' pods are to be reached.
    pub mode: Mode,
    /// What the process may and the kernel can do.
    pub abilities: Abilities,
    /// The Nodes.
    pub cluster: Read<Cluster>,
    /// Routes, and our tables.
    pub seen: Read<Seen>,
    /// The addresses of this host with their subnets.
    pub addresses: Read<Vec<Address>>,
    /// Its links.
    pub links: Read<Vec<Link>>,
    /// Its settings.
    pub sysctls: Sysctls,
    /// Where cluster IPs come from, as far as that was said.
    pub service_ranges: Vec<IpNetwork>,
    /// The folders of a runtime.
    pub cni: Cni,
    /// What pods hold.
    pub leases: Leases,
    /// Other programs.
    pub others: Others,
    /// Packets that were sent to other nodes.
    pub probed: Probed,
}

impl Facts {
    /// Our own Node.
    pub fn own(&self) -> Option<&Node> {
        self.cluster.as_ref().ok()?.node(&self.node)
    }

    /// The other Nodes.
    pub fn peers(&self) -> impl Iterator<Item = &Node> {
        self.cluster.iter().flat_map(|cluster| cluster.others(&self.node))
    }

    /// The pod ranges of all nodes.
    pub fn pod_ranges(&self) -> impl Iterator<Item = IpNetwork> {
        self.cluster.iter().flat_map(Cluster::nodes).flat_map(|node| node.pod_cidrs.iter().copied())
    }

    /// What the agent would have the kernel have, but for tables. Of VXLAN, what is there counts as what was asked for: no
    /// program but the agent knows the operator's numbers.
    pub fn plan(&self) -> Option<Plan> {
        let seen = self.seen.as_ref().ok()?;
        let settings = plan::Settings {
            node: self.node.clone(),
            mode: self.mode,
            vxlan: vxlan_of(seen),
            masquerades: false,
            seen_by: Vec::new(),
            families: Vec::new(),
        };
        Some(plan::plan(self.cluster.as_ref().ok()?, &settings, seen))
    }

    /// A link by its number.
    pub fn link(&self, index: LinkIndex) -> Option<&Link> {
        self.links.as_ref().ok()?.iter().find(|link| link.index == index)
    }

    /// The names of links by which routers announce themselves, or that have our Node's addresses.
    pub fn uplinks(&self) -> BTreeSet<&str> {
        let addresses = self.own().map_or(&[][..], |node| &node.addresses);
        let found = self.seen.as_ref().map(|seen| seen.uplinks(addresses)).unwrap_or_default();
        found.into_iter().filter_map(|index| Some(self.link(index)?.name.as_str())).collect()
    }

    /// The links that lead to pods of our plugin.
    pub fn pod_links(&self) -> impl Iterator<Item = &Link> {
        self.links.iter().flatten().filter(|link| link.name.starts_with(HOST_PREFIX))
    }

    /// The bridges that pods of our plugin are on.
    pub fn pod_bridges(&self) -> impl Iterator<Item = &Link> {
        let masters: BTreeSet<LinkIndex> = self.pod_links().filter_map(|link| link.master).collect();
        self.links.iter().flatten().filter(move |link| masters.contains(&link.index))
    }

    /// The route that a packet to an address takes: the longest prefix, and then the lowest metric.
    pub fn route_to(&self, to: IpAddr) -> Option<&Route> {
        let routes = self.seen.as_ref().ok()?;
        let all = routes.ours().filter(|route| route.table == TABLE_MAIN).chain(routes.others());
        let fitting = all.filter(|route| route.to.contains(to));
        fitting.max_by_key(|route| (route.to.prefix(), Reverse(route.priority.unwrap_or(0))))
    }
}

fn vxlan_of(seen: &Seen) -> Vxlan {
    let usual = Vxlan::default();
    let id = seen.ours().find_map(|route| route.encap).map_or(usual.id, |tunnel| tunnel.id);
    let device = seen.vxlan.device.as_ref();
    let offload = device.and_then(|device| device.offload).unwrap_or(usual.offload);
    Vxlan { port: device.map_or(usual.port, |device| device.port), id, offload }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::doctor::check::{Check, Outcome};
    use crate::doctor::mtu;
    use heddle_netlink::route::PROTOCOL_HEDDLE_NODE;

    pub(in crate::doctor) fn net(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    pub(in crate::doctor) fn node(number: u8) -> Node {
        Node {
            name: format!("node-{number}").into(),
            addresses: vec![
                [192, 168, 0, 10 + number].into(),
                format!("fd00:192::{number}").parse().unwrap(),
            ],
            pod_cidrs: vec![net(&format!("10.244.{number}.0/24")), net(&format!("fd00:244:0:{number}::/64"))],
            ..Node::default()
        }
    }

    pub(in crate::doctor) fn cluster(nodes: impl IntoIterator<Item = Node>) -> Cluster {
        use heddle_proxy::model::{Change, Kind};
        let mut cluster = Cluster::default();
        nodes.into_iter().for_each(|node| _ = cluster.apply(Change::NodeApplied(node)));
        cluster.apply(Change::Complete(Kind::Node));
        cluster
    }

    pub(in crate::doctor) fn link(index: u32, name: &str, kind: Option<&str>) -> Link {
        Link {
            index: LinkIndex(index),
            name: name.to_owned(),
            mac: None,
            mtu: 1500,
            up: true,
            loopback: false,
            promiscuous: false,
            kind: kind.map(str::to_owned),
            master: None,
            peer: None,
            alias: None,
            port: None,
            netfilter: None,
            vlans: None,
            vxlan: None,
        }
    }

    /// `node-1` of three on one link (2), with one pod on its bridge (3), everything in order.
    pub(in crate::doctor) fn healthy() -> Facts {
        let address = |link, address| Address { link: LinkIndex(link), address: net(address) };
        let addresses = vec![
            address(1, "127.0.0.1/8"),
            address(2, "192.168.0.11/24"),
            address(2, "fd00:192::1/64"),
            address(3, "10.244.1.1/24"),
            address(3, "fd00:244:0:1::1/64"),
        ];
        let mut seen = Seen {
            addresses: addresses.iter().map(|has| (has.address.ip(), has.link)).collect(),
            ..Seen::default()
        };
        let on_link = |to: &str, link| Route::new(net(to), None, LinkIndex(link));
        seen.routes = vec![
            on_link("192.168.0.0/24", 2),
            on_link("fd00:192::/64", 2),
            on_link("10.244.1.0/24", 3),
            on_link("fd00:244:0:1::/64", 3),
        ];
        let cluster = cluster((1..=3).map(node));
        let bridge = Link { netfilter: Some(true), ..link(3, "cni0", Some("bridge")) };
        let port = Link { master: Some(LinkIndex(3)), ..link(4, "hdl000000000001", Some("veth")) };
        let mut facts = Facts {
            node: "node-1".into(),
            agent: Ok(Running { state: "whole".to_owned(), ..Running::default() }),
            mode: Mode::Auto,
            abilities: Abilities {
                admin: Ok(true),
                release: "6.1.0".to_owned(),
                nf_tables: Ok(Vec::new()),
                vxlan: Ok(true),
                ipv6: true,
            },
            cluster: Ok(cluster),
            seen: Ok(seen),
            addresses: Ok(addresses),
            links: Ok(vec![link(2, "eth0", None), bridge, port]),
            sysctls: sysctls(),
            service_ranges: vec![net("10.96.0.0/12")],
            cni: crate::doctor::cni::tests::healthy(),
            leases: Leases { held: Ok(1), dead: Ok(Vec::new()), touched: Ok(None) },
            others: Others::default(),
            probed: Probed::default(),
        };
        let plan = facts.plan().unwrap();
        assert!(plan.routes.values().all(|route| route.protocol == PROTOCOL_HEDDLE_NODE));
        facts.seen.as_mut().unwrap().routes.extend(plan.routes.values());
        let targets = mtu::targets(&facts);
        facts.probed.answers = targets.into_iter().map(|target| (target, mtu::Answer::Whole)).collect();
        facts
    }

    fn sysctls() -> Sysctls {
        let settings = [
            ("ipv4/ip_forward", "1"),
            ("ipv4/conf/eth0/forwarding", "1"),
            ("ipv6/conf/all/forwarding", "1"),
            ("ipv6/conf/eth0/accept_ra", "1"),
            ("ipv4/conf/all/rp_filter", "1"),
            ("ipv4/conf/eth0/rp_filter", "1"),
            ("ipv4/neigh/default/gc_thresh2", "512"),
            ("ipv4/neigh/default/gc_thresh3", "1024"),
            ("bridge/bridge-nf-call-iptables", "0"),
            ("bridge/bridge-nf-call-ip6tables", "0"),
            ("netfilter/nf_conntrack_count", "5"),
            ("netfilter/nf_conntrack_max", "131072"),
        ];
        Sysctls(settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into())
    }

    /// The worst outcome of the checks of a name.
    pub(in crate::doctor) fn outcome(checks: &[Check], name: &str) -> Outcome {
        let named = checks.iter().filter(|check| check.name == name).map(|check| check.outcome);
        named.max().unwrap_or_else(|| panic!("there is no check {name:?}"))
    }

    #[test]
    fn a_healthy_node_is_in_order_at_every_step() {
        let checks = crate::doctor::judge(&healthy());
        let faults: Vec<_> = checks.iter().filter(|check| check.outcome > Outcome::Ok).collect();
        assert!(faults.is_empty(), "{faults:?}");
    }

    #[test]
    fn what_cannot_be_read_is_no_fault_of_the_node() {
        let mut facts = healthy();
        let why = || "no rights".to_owned();
        facts.cluster = Err(why());
        facts.seen = Err(why());
        facts.addresses = Err(why());
        facts.links = Err(why());
        facts.sysctls = Sysctls::default();
        facts.probed = Probed::default();
        let checks = crate::doctor::judge(&facts);
        let faults: Vec<_> = checks.iter().filter(|check| check.outcome > Outcome::Ok).collect();
        let names: BTreeSet<_> = faults.iter().map(|check| check.name).collect();
        assert_eq!(names, BTreeSet::from(["nodes"]), "{faults:?}");
    }
}
