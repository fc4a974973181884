//! Steps → kernel. The first step that fails ends it, and what was done is undone in reverse.
//!
//! No policy: what is to be done is decided in [`plan`](crate::plan). Invariant: after an error, no link that this
//! call made is left, unless the error says so; a link that was there before is never removed.

use crate::namespace::{self, Namespace};
use crate::node::Node;
use crate::plan::{Pair, Setting, Step, Undo};
use crate::setting::{is_same, read, set, set_all};
use heddle_netlink::address::Address;
use heddle_netlink::link::{self, Change, Link, LinkIndex, Peer, Port, Veth, Which};
use heddle_netlink::neighbour::Neighbour;
use heddle_netlink::tuning::Tuning;
use heddle_netlink::{Batch, Errno, Family, Socket, route};
use ipnetwork::IpNetwork;
use std::io;
use std::os::fd::AsFd;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused.
    #[error("{action}")]
    Kernel {
        /// What was tried.
        action: String,
        /// Its own words.
        #[source]
        source: heddle_netlink::Error,
    },
    /// The pod's namespace cannot be used.
    #[error("work in the pod's network namespace")]
    Namespace(#[from] namespace::Error),
    /// A link of the wanted name is there.
    #[error("link {name} exists already {place}")]
    Exists {
        /// Its name.
        name: String,
        /// Where.
        place: &'static str,
    },
    /// A link went away meanwhile.
    #[error("link {name} has gone while it was being set up")]
    Gone {
        /// Its name.
        name: String,
    },
    /// The link that should be the bridge is of another kind.
    #[error("link {name} is no bridge but {kind}")]
    NotABridge {
        /// Its name.
        name: String,
        /// Its kind.
        kind: String,
    },
    /// The bridge serves another subnet.
    #[error("bridge {bridge} has address {has}, which contradicts {wanted}; remove it, or set forceAddress")]
    BridgeAddress {
        /// The bridge's name.
        bridge: String,
        /// What it has.
        has: IpNetwork,
        /// What it should have.
        wanted: IpNetwork,
    },
    /// A kernel setting cannot be read or written.
    #[error("set /proc/sys/{key} to {value}")]
    Setting {
        /// The path below `/proc/sys`.
        key: String,
        /// The value.
        value: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Whether the kernel may have done what was asked: its answer was not heard.
    fn is_in_doubt(&self) -> bool {
        matches!(self, Self::Kernel { source, .. } if source.errno().is_none())
    }
}

pub(crate) fn refused(action: String) -> impl FnOnce(heddle_netlink::Error) -> Error {
    move |source| Error::Kernel { action, source }
}

/// An error with what could not be undone after it.
#[derive(Debug)]
pub struct Failed {
    /// Why it ended.
    pub error: Error,
    /// What is left behind, and why.
    pub left: Vec<Error>,
}

/// What the steps made, as the kernel sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The bridge, if there is one.
    pub bridge: Option<Link>,
    /// The link of the pod's VLAN that has the gateways' addresses, if there is one.
    pub vlan_link: Option<Link>,
    /// The pod's end of the pair.
    pub pod: Link,
}

/// The way to the node's kernel and to the pod's, for one interface of the pod.
#[derive(Debug)]
pub struct Kernel {
    node: Node,
    pod: Socket,
    own: Namespace,
    namespace: Namespace,
    ifname: String,
    bridge: Option<Link>,
    vlan_link: Option<Link>,
    pod_link: Option<Link>,
}

impl Kernel {
    /// Opens a socket inside the pod's namespace and comes back.
    ///
    /// # Errors
    /// When the namespace cannot be entered or gives no socket.
    pub fn open(node: Node, (own, namespace): (Namespace, Namespace), ifname: &str) -> Result<Self, Error> {
        let pod = namespace.inside(&own, || Socket::open(Family::Route))?;
        let pod = pod.map_err(refused("reach the pod's kernel".to_owned()))?;
        let ifname = ifname.to_owned();
        Ok(Self { node, pod, own, namespace, ifname, bridge: None, vlan_link: None, pod_link: None })
    }

    /// The node's side.
    pub fn node(&mut self) -> &mut Node {
        &mut self.node
    }

    /// The pod's side.
    pub(crate) fn pod(&mut self) -> &mut Socket {
        &mut self.pod
    }

    /// Fails when the pod has the interface already.
    ///
    /// # Errors
    /// [`Error::Exists`], or the cause when the kernel does not say.
    pub fn check_pod_lacks_link(&mut self) -> Result<(), Error> {
        match self.find_pod_link()? {
            Some(Link { name, .. }) => Err(Error::Exists { name, place: "in the pod" }),
            None => Ok(()),
        }
    }

    /// Does all steps, or none.
    ///
    /// # Errors
    /// The first step that failed.
    pub fn apply(&mut self, steps: &[Step]) -> Result<Made, Failed> {
        let mut undo = Vec::new();
        for group in steps.chunk_by(|a, b| a.is_in_pod() && b.is_in_pod()) {
            if let Err(error) = self.apply_group(group) {
                if error.is_in_doubt() {
                    undo.extend(group.iter().filter_map(Step::undo));
                }
                return Err(Failed { error, left: self.take_back(undo) });
            }
            undo.extend(group.iter().filter_map(Step::undo));
        }
        self.made().map_err(|error| Failed { error, left: self.take_back(undo) })
    }

    /// Changes an interface that another plugin made, and gives it as it is then.
    ///
    /// # Errors
    /// The first change that is refused; then the settings say what they did before.
    pub fn adjust(&mut self, settings: &[Setting], tuning: Tuning) -> Result<Link, Error> {
        let index = self.find_pod_link()?.ok_or_else(|| self.gone())?.index;
        self.namespace.inside(&self.own, || set_all(settings))??;
        let mut batch = Batch::new();
        tuning.apply(&mut batch, index);
        self.pod.request(&mut batch).map_err(refused(format!("change link {} in the pod", self.ifname)))?;
        self.find_pod_link()?.ok_or_else(|| self.gone())
    }

    /// Those of the settings that say something else in the pod, or cannot be read.
    ///
    /// # Errors
    /// When the pod cannot be entered.
    pub fn find_unset<'a>(&self, settings: &'a [Setting]) -> Result<Vec<&'a Setting>, Error> {
        let unset = |wanted: &&Setting| {
            read(&wanted.key).ok().flatten().is_none_or(|says| !is_same(&says, &wanted.value))
        };
        Ok(self.namespace.inside(&self.own, || settings.iter().filter(unset).collect())?)
    }

    fn made(&self) -> Result<Made, Error> {
        let pod = self.pod_link.clone().ok_or_else(|| self.gone())?;
        Ok(Made { bridge: self.bridge.clone(), vlan_link: self.vlan_link.clone(), pod })
    }

    fn gone(&self) -> Error {
        Error::Gone { name: self.ifname.clone() }
    }

    fn take_back(&mut self, undo: Vec<Undo>) -> Vec<Error> {
        let backwards = undo.into_iter().rev();
        backwards.filter_map(|Undo::DeleteLink(name)| self.node.delete_link(&name).err()).collect()
    }

    fn apply_group(&mut self, group: &[Step]) -> Result<(), Error> {
        match group {
            [Step::KeepUplinkRoutes] => self.node.keep_uplink_routes(),
            [Step::NodeSetting(setting)] => set(setting),
            [Step::PodSetting(setting)] => self.namespace.inside(&self.own, || set(setting))?,
            [Step::Bridge { name, mtu, promiscuous }] => {
                self.bridge = Some(self.node.bridge(name, *mtu, *promiscuous)?);
                Ok(())
            }
            [Step::FilterVlans] => self.node.filter_vlans(&self.bridge()?),
            [Step::VlanLink { name, id }] => {
                self.vlan_link = Some(self.node.vlan_link(&self.bridge()?, name, *id)?);
                Ok(())
            }
            [Step::BridgeAddresses { addresses, force, .. }] => {
                let link = self.vlan_link.clone().map_or_else(|| self.bridge(), Ok)?;
                self.node.bridge_addresses(&link, addresses, *force)
            }
            [Step::Pair(pair)] => self.pair(pair),
            [Step::PortVlans { link, vlans }] => self.node.port_vlans(&self.bridge()?, link, vlans),
            [Step::HostRoutes { link, addresses, mac }] => self.node.routes_to_pod(link, addresses, *mac),
            [Step::HostEnd { link, alias, port }] => self.host_end(link, alias, *port),
            [Step::Names { link, names }] => self.node.add_names(link, names),
            in_pod => self.in_pod(in_pod),
        }
    }

    /// The bridge that an earlier step found or made.
    fn bridge(&self) -> Result<Link, Error> {
        self.bridge.clone().ok_or_else(|| Error::Gone { name: "of the bridge".to_owned() })
    }

    fn pair(&mut self, pair: &Pair) -> Result<(), Error> {
        let veth = Veth {
            name: &pair.host,
            mac: pair.host_mac,
            mtu: pair.mtu,
            master: self.bridge.as_ref().map(|bridge| bridge.index),
            peer: Peer { name: &pair.pod, mac: pair.pod_mac, namespace: self.namespace.as_fd() },
        };
        let mut batch = Batch::new();
        veth.create(&mut batch);
        let action = || format!("make the links {} and {}", pair.host, pair.pod);
        match self.node.request(&mut batch, action) {
            Err(Error::Kernel { source, .. }) if source.errno() == Some(Errno::EXIST) => {
                Err(Error::Exists { name: pair.host.clone(), place: "on the node; a DEL removes it" })
            }
            done => done,
        }
    }

    fn host_end(&mut self, link: &str, alias: &str, port: Option<Port>) -> Result<(), Error> {
        let mut batch = Batch::new();
        Change { alias: Some(alias), port }.apply(&mut batch, Which::Name(link));
        self.node.request(&mut batch, || format!("name {link}, and set up its port of the bridge"))
    }

    pub(crate) fn find_pod_link(&mut self) -> Result<Option<Link>, Error> {
        let found = link::fetch(&mut self.pod, Which::Name(&self.ifname));
        found.map_err(refused(format!("find link {} in the pod", self.ifname)))
    }

    /// All that is set inside the pod goes in one send.
    fn in_pod(&mut self, steps: &[Step]) -> Result<(), Error> {
        self.pod_link = self.find_pod_link()?;
        let index = self.pod_link.as_ref().ok_or_else(|| self.gone())?.index;
        let mut batch = Batch::new();
        steps.iter().for_each(|step| push_in_pod(&mut batch, index, step));
        let Err(error) = self.pod.request(&mut batch) else { return Ok(()) };
        let heddle_netlink::Error::Refused { refusals } = &error else {
            return Err(refused("set up the pod's link".to_owned())(error));
        };
        // A route that is there already came with an address, or was asked for twice: the first one wins.
        let harmless = |step: &Step, errno| matches!(step, Step::PodRoute(_)) && errno == Errno::EXIST;
        let step_of = |index: u32| &steps[index as usize];
        let Some(first) = refusals.iter().find(|r| !harmless(step_of(r.index), r.errno)) else {
            return Ok(());
        };
        let action = describe(step_of(first.index));
        Err(refused(action)(error))
    }
}

/// One message for each step, so that a refusal's index is the step's.
fn push_in_pod(batch: &mut Batch, link: LinkIndex, step: &Step) {
    match step {
        Step::Loopback => link::set_up(batch, Which::Name("lo")),
        Step::PodTuning(tuning) => tuning.apply(batch, link),
        Step::PodAddress(address) => Address { link, address: *address }.add(batch),
        Step::PodNeighbour { address, mac } => {
            Neighbour { link, address: *address, mac: *mac }.replace(batch)
        }
        Step::PodRoute(wanted) => {
            let plain = route::Route::new(wanted.to, wanted.gateway, link);
            let table = wanted.table.unwrap_or(plain.table);
            let scope = wanted.scope.unwrap_or(plain.scope);
            let (priority, mtu, advmss) = (wanted.priority, wanted.mtu, wanted.advmss);
            route::Route { table, scope, priority, mtu, advmss, ..plain }.add(batch)
        }
        _ => link::set_up(batch, Which::Index(link)),
    };
}

fn describe(step: &Step) -> String {
    match step {
        Step::Loopback => "set the pod's loopback link up".to_owned(),
        Step::PodAddress(address) => format!("give the pod address {address}"),
        Step::PodTuning(_) => "change the pod's link".to_owned(),
        Step::PodNeighbour { address, .. } => format!("tell the pod who {address} is"),
        Step::PodRoute(config) => match config.gateway {
            Some(gateway) => format!("give the pod a route to {} through {gateway}", config.to),
            None => format!("give the pod a route to {}", config.to),
        },
        _ => "set the pod's link up".to_owned(),
    }
}
