//! The door to the kernel's sockets: what the dataplane asks for, and who does it on a node.
//!
//! It decides nothing: when maps are loaded anew, and when sockets are let go, is the dataplane's. Invariant: what it needs of the node
//! is opened when it is first used, so that a node without it is one failure among others.

use super::attach::Cgroup;
use super::between::{self, Hindrance, Look, Untracking};
use super::error::Unable;
use super::kernel::{self, KernelTables};
use super::namespaces::{self, Namespaces};
use super::passing;
use super::pins::Pins;
use super::plan::Leads;
use super::probe::Probe;
use super::tables::Tables;
use crate::dataplane::Untracked;
use crate::frontends::Frontend;
use aya::EbpfLoader;
use heddle_netlink::nft::shared;
use heddle_netlink::{Family, Socket, address, conntrack};
use ipnetwork::IpNetwork;
use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// The door to the kernel's sockets.
pub trait Door {
    /// Maps of one load.
    type Tables: Tables;

    /// Makes new maps and programs, which nothing uses yet.
    ///
    /// # Errors
    /// What the kernel does not take.
    fn load(&mut self) -> Result<Self::Tables, Unable>;

    /// Puts the programs of these maps in the places of those that run.
    ///
    /// # Errors
    /// What the kernel does not take.
    fn attach(&mut self, tables: &Self::Tables) -> Result<(), Unable>;

    /// The cgroup that programs were last attached to.
    fn cgroup(&self) -> Option<PathBuf> {
        None
    }

    /// Lets sockets go: from now on packets are served.
    ///
    /// # Errors
    /// When programs are left.
    fn detach(&mut self) -> Result<(), Unable>;

    /// What the maps must have for [`Door::prove`].
    ///
    /// # Errors
    /// When there can be no proof.
    fn probes(&mut self) -> Result<Vec<(Frontend, Leads)>, Unable>;

    /// Whether sockets are served, tried out.
    ///
    /// # Errors
    /// What did not work.
    fn prove(&mut self) -> Result<(), Unable>;

    /// Serves node ports on these of the node's addresses. Returns all of them.
    ///
    /// # Errors
    /// When they cannot be listed, or written.
    fn serve_on(
        &mut self,
        tables: &mut Self::Tables,
        served: &dyn Fn(&IpAddr) -> bool,
    ) -> Result<BTreeSet<IpAddr>, Unable>;

    /// Leaves the pods with these addresses out, and nobody else. Returns the addresses that no pod has been found with.
    ///
    /// # Errors
    /// When pods cannot be looked for, or left out.
    fn leave_out(
        &mut self,
        tables: &mut Self::Tables,
        pods: &BTreeSet<IpAddr>,
    ) -> Result<BTreeSet<IpAddr>, Unable>;

    /// Whether something needs connections between these to be tracked. Never waits: what takes long is [`Look::Pending`] until it is asked
    /// again, not `anew`.
    ///
    /// # Errors
    /// When it cannot be looked at.
    fn look_between(
        &mut self,
        between: &[Untracked],
        untracking: Untracking,
        anew: bool,
    ) -> Result<Look, Unable>;

    /// Lets frames of the bridges that have an address in these networks pass by the node's rules, and those of no others.
    ///
    /// # Errors
    /// When bridges cannot be listed, or told.
    fn let_pass(&mut self, networks: &[IpNetwork]) -> Result<(), Unable>;
}

/// Where things are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The cgroup whose sockets are served; without it, the node's.
    pub cgroup: Option<PathBuf>,
    /// The BPF file system; without it, the usual one.
    pub pins: Option<PathBuf>,
    /// The folder with the network namespaces of pods; without it, the usual one.
    pub namespaces: Option<PathBuf>,
}

impl Places {
    /// The folder with the network namespaces of pods.
    pub fn namespaces(&self) -> &Path {
        self.namespaces.as_deref().unwrap_or(Path::new(namespaces::FOLDER))
    }
}

/// The kernel's side of the door, in the node's network namespace. What it needs is opened when it is first used.
#[derive(Debug)]
pub struct KernelDoor {
    /// For the first load, made while what is wanted is still awaited.
    loader: Option<JoinHandle<EbpfLoader<'static>>>,
    pins: Pins,
    proof: Proof,
    route: Option<Socket>,
    /// Kept, since the kernel makes commits wait where one is closed: tens of milliseconds, for what earlier commits removed to be freed
    /// (`nft_rcv_nl_event`).
    netfilter: Vec<Socket>,
    /// Counts connections between pods that are translated.
    counting: Option<JoinHandle<Counted>>,
    namespaces: Namespaces,
    cgroup: Option<PathBuf>,
}

/// What was counted, and the socket that it was asked of.
type Counted = (Socket, Result<usize, heddle_netlink::Error>);

/// Finds out whether sockets are served, from any thread.
#[derive(Clone, Debug)]
pub struct Proof {
    places: Places,
    pins: Pins,
    /// One at a time: there is one receiver for all who try.
    probe: Arc<Mutex<Option<Probe>>>,
}

impl Proof {
    /// One that looks there.
    pub fn new(places: Places) -> Self {
        let pins = Pins::in_file_system(places.pins.as_deref().unwrap_or(super::pins::BPF_FS.as_ref()));
        Self { places, pins, probe: Arc::default() }
    }

    fn cgroup(&self) -> Result<Cgroup, Unable> {
        Cgroup::open(self.places.cgroup.as_deref())
    }

    fn with_probe<T>(&self, work: impl FnOnce(&Probe) -> T) -> Result<T, Unable> {
        let mut probe = self.probe.lock().unwrap_or_else(PoisonError::into_inner);
        match &*probe {
            Some(probe) => Ok(work(probe)),
            None => Ok(work(probe.insert(Probe::open()?))),
        }
    }

    /// Tries.
    ///
    /// # Errors
    /// What did not work.
    pub fn check(&self) -> Result<(), Unable> {
        self.with_probe(Probe::check)??;
        // Programs see sockets of ours through any cgroup that we are in; others', only through this one.
        let cgroup = self.cgroup()?;
        if cgroup.is_attached(&self.pins) {
            return Ok(());
        }
        let why = "a link is gone, or on another cgroup";
        Err(Unable::new(format!("find the programs on {}", cgroup.path().display()), why))
    }
}

impl KernelDoor {
    /// One whose effect is found out in this way.
    pub fn new(proof: Proof) -> Self {
        let namespaces = Namespaces::of(proof.places.namespaces());
        let loader = thread::Builder::new().name("loader".to_owned()).spawn(kernel::loader).ok();
        Self {
            loader,
            pins: proof.pins.clone(),
            proof,
            route: None,
            netfilter: Vec::new(),
            counting: None,
            namespaces,
            cgroup: None,
        }
    }

    fn route(&mut self) -> Result<&mut Socket, heddle_netlink::Error> {
        Ok(match &mut self.route {
            Some(socket) => socket,
            none => none.insert(Socket::open(Family::Route)?),
        })
    }

    fn netfilter(&mut self) -> Result<Socket, heddle_netlink::Error> {
        self.netfilter.pop().map_or_else(|| Socket::open(Family::Netfilter), Ok)
    }

    /// Looks at others' rules.
    fn hooked(&mut self) -> Result<Vec<shared::Hooked>, heddle_netlink::Error> {
        let mut socket = self.netfilter()?;
        let hooked = shared::hooked(&mut socket);
        self.netfilter.push(socket);
        hooked
    }

    /// Begins to count connections between these that are translated.
    fn count_translated(&mut self, between: &[Untracked]) -> Result<(), Unable> {
        let action = "look for translated connections";
        let mut socket = self.netfilter().map_err(|source| Unable::new(action, source))?;
        let pods = between.to_vec();
        let count = move || {
            let counted = conntrack::count_translated(&mut socket, |flow| between::answers(flow, &pods));
            (socket, counted)
        };
        let thread = thread::Builder::new().name("translated".to_owned()).spawn(count);
        self.counting = Some(thread.map_err(Unable::at(action))?);
        Ok(())
    }

    fn addresses(&mut self) -> Result<BTreeSet<IpAddr>, heddle_netlink::Error> {
        Ok(address::list_all(self.route()?)?.into_iter().map(|one| one.address.ip()).collect())
    }
}

impl Door for KernelDoor {
    type Tables = KernelTables;

    fn load(&mut self) -> Result<KernelTables, Unable> {
        let early = self.loader.take().and_then(|making| making.join().ok());
        KernelTables::load(&self.pins, early.unwrap_or_else(kernel::loader))
    }

    fn attach(&mut self, tables: &KernelTables) -> Result<(), Unable> {
        let cgroup = self.proof.cgroup()?;
        cgroup.attach(&self.pins, &tables.programs)?;
        self.cgroup = Some(cgroup.path().to_owned());
        // What stays is found and removed the next time.
        let _ = self.pins.sweep();
        Ok(())
    }

    fn cgroup(&self) -> Option<PathBuf> {
        self.cgroup.clone()
    }

    fn detach(&mut self) -> Result<(), Unable> {
        self.let_pass(&[])?;
        self.pins.remove().map_err(Unable::at("remove the programs"))?;
        Ok(())
    }

    fn probes(&mut self) -> Result<Vec<(Frontend, Leads)>, Unable> {
        self.proof.with_probe(Probe::frontends)
    }

    fn prove(&mut self) -> Result<(), Unable> {
        self.proof.check()
    }

    fn serve_on(
        &mut self,
        tables: &mut KernelTables,
        served: &dyn Fn(&IpAddr) -> bool,
    ) -> Result<BTreeSet<IpAddr>, Unable> {
        let all = self.addresses().map_err(|source| Unable::new("list the node's addresses", source))?;
        let wanted = all.iter().copied().filter(served).collect();
        tables.set_addresses(&wanted).map_err(Unable::at("serve node ports"))?;
        Ok(all)
    }

    fn leave_out(
        &mut self,
        tables: &mut KernelTables,
        pods: &BTreeSet<IpAddr>,
    ) -> Result<BTreeSet<IpAddr>, Unable> {
        let found = self.namespaces.find_by_address(pods).map_err(Unable::at("look for pods"))?;
        tables.leave_out(&found.cookies).map_err(Unable::at("leave pods out"))?;
        Ok(found.missing)
    }

    fn look_between(
        &mut self,
        between: &[Untracked],
        untracking: Untracking,
        anew: bool,
    ) -> Result<Look, Unable> {
        let others = self.hooked().map_err(|source| Unable::new("look at others' rules", source))?;
        if let Some(rules) = between::rules_in_the_way(&others, &legacy_tables(), untracking) {
            return Ok(Look::Hindered(rules));
        }
        let Some(counting) = self.counting.take().filter(|_| !anew) else {
            return self.count_translated(between).map(|()| Look::Pending);
        };
        if !counting.is_finished() {
            self.counting = Some(counting);
            return Ok(Look::Pending);
        }
        let (socket, counted) = counting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        self.netfilter.push(socket);
        let count = counted.map_err(|source| Unable::new("look for translated connections", source))?;
        Ok(if count == 0 { Look::Clear } else { Look::Hindered(Hindrance::Translated(count)) })
    }

    fn let_pass(&mut self, networks: &[IpNetwork]) -> Result<(), Unable> {
        let told = self.route().and_then(|socket| passing::set(socket, networks));
        told.map(drop).map_err(|source| Unable::new("tell bridges whether frames pass by rules", source))
    }
}

/// The tables of `ip_tables`, which iptables-legacy uses; none where the kernel has none, or does not tell.
fn legacy_tables() -> Vec<String> {
    let names = |file| fs::read_to_string(file).unwrap_or_default();
    let all = ["/proc/thread-self/net/ip_tables_names", "/proc/thread-self/net/ip6_tables_names"].map(names);
    all.iter().flat_map(|names| names.lines()).map(str::to_owned).collect()
}
