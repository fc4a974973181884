//! Frontends into the wanted table, with the edits since the last time.
//!
//! A [`Plan`] is the wanted table of one family, kept up edit by edit; nothing is derived twice. Invariant: the table is a
//! function of frontends and surroundings, but for the order of one frontend's endpoints among its slots, which is kept as
//! stable as it can be so that one changed endpoint is one changed slot.

use super::affinity::{Affinities, List, Retimed};
use super::chains::{self, Present};
use super::ruleset::{self, Maps};
use super::settings::{Locality, Settings};
use super::shape::Shape;
use super::slots;
use crate::dataplane::Surroundings;
use crate::delta::{Delta, Edit};
use crate::frontends::{Affinity, Backends, Endpoint, Frontend, IpFamily, Place, Reach};
use heddle_netlink::nft::{Cells, Chain, Data, Name, Table, TableFamily};
use ipnetwork::IpNetwork;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Edits of a table's content, in the kernel's terms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Chains made, changed or gone.
    pub chains: Delta<Name, Chain>,
    /// Elements made, changed or gone, by set.
    pub elements: BTreeMap<Name, Delta<Cells, Data>>,
}

/// The wanted table of one family.
#[derive(Clone, Debug)]
pub struct Plan {
    settings: Settings,
    /// The settings know pods by the networks that the Node object has for them.
    follows_pod_cidrs: bool,
    table: Table,
    edits: Edits,
    /// Edits are kept. They are not where whole tables will be compared: at a start they would take more than the table.
    recording: bool,
    present: Present,
    /// How many frontends have each shape.
    shapes: BTreeMap<Shape, usize>,
    /// How many times each address is a local endpoint.
    hairpins: BTreeMap<IpAddr, usize>,
    affinities: Affinities,
    /// How many Services' ports are remembered for so many seconds.
    remembering: BTreeMap<u32, usize>,
    /// How many frontends have each cluster IP.
    cluster_ips: BTreeMap<IpAddr, usize>,
}

impl Plan {
    /// The plan for no Service at all.
    pub fn new(family: TableFamily, settings: Settings) -> Self {
        Self {
            table: ruleset::empty(family, &settings),
            follows_pod_cidrs: settings.locality == Locality::NodeNetworks,
            settings,
            edits: Edits::default(),
            recording: true,
            present: Present::default(),
            shapes: BTreeMap::new(),
            hairpins: BTreeMap::new(),
            affinities: Affinities::default(),
            remembering: BTreeMap::new(),
            cluster_ips: BTreeMap::new(),
        }
    }

    /// The wanted table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// What changed since the last call.
    pub fn take_edits(&mut self) -> Edits {
        std::mem::take(&mut self.edits)
    }

    /// Whether changes are to be kept for [`Plan::take_edits`].
    pub fn record(&mut self, wanted: bool) {
        self.recording = wanted;
    }

    /// Takes edits of frontends in; those of the other family are not ours.
    pub fn stage(&mut self, delta: &Delta<Frontend, Backends>) {
        let family = ruleset::ip_family(self.table.family);
        let mut ours = delta.iter().filter(|(frontend, _)| frontend.place.family() == family).peekable();
        if ours.peek().is_none() {
            return;
        }
        let before = self.present.clone();
        for (frontend, edit) in ours {
            self.stage_frontend(frontend, edit);
        }
        self.stage_present(&before);
    }

    /// Takes in what the node and the cluster are like.
    pub fn surround(&mut self, surroundings: &Surroundings) {
        let before = self.present.clone();
        let family = ruleset::ip_family(self.table.family);
        let ours = |address: &IpAddr| IpFamily::of(*address) == family;
        self.present.node_address = surroundings.node_addresses.iter().copied().find(ours);
        let cidrs = surroundings.service_cidrs.iter().filter(|cidr| ours(&cidr.ip()));
        self.present.service_cidrs = cidrs.copied().collect();
        let untracked = surroundings.untracked.iter().filter(|between| ours(&between.network.ip()));
        self.present.untracked = untracked.cloned().collect();
        self.stage_present(&before);
        let locality = Locality::Networks(surroundings.pod_cidrs.clone());
        if self.follows_pod_cidrs && self.settings.locality != locality {
            self.settings.locality = locality;
            self.stage_shapes();
        }
    }

    /// The chains of all shapes, made again.
    fn stage_shapes(&mut self) {
        let shapes: Vec<Shape> = self.shapes.keys().copied().collect();
        for shape in &shapes {
            let (name, chain) = chains::of_shape(shape, &self.settings, self.table.family);
            self.set_chain(name, Some(chain));
        }
    }

    /// The chains that depend on what the table holds.
    fn stage_present(&mut self, before: &Present) {
        let family = self.table.family;
        let chains = |settings: &Settings, present: &Present| {
            let mut chains = chains::nat(settings, family, present);
            chains.extend(chains::filter(settings, family, present));
            chains
        };
        if *before != self.present {
            let (old, new) = (chains(&self.settings, before), chains(&self.settings, &self.present));
            for (name, edit) in Delta::between(&old, &new).iter() {
                self.set_chain(name.clone(), edit.new.clone());
            }
        }
    }

    fn stage_frontend(&mut self, frontend: &Frontend, edit: &Edit<Backends>) {
        let key = ruleset::frontend_key(frontend);
        let maps = Maps::of(frontend.place);
        let old = Routed::of(frontend, edit.old.as_ref());
        let new = Routed::of(frontend, edit.new.as_ref());
        self.count_hairpins(&new, true);
        self.count_hairpins(&old, false);
        self.fill_slots((maps.cluster, key), old.cluster.len(), new.cluster);
        self.fill_slots((maps.local, key), old.local.len(), new.local);
        if old.shape != new.shape {
            self.count_shape(new.shape, true);
            self.count_shape(old.shape, false);
            self.set_element(maps.chains, key, new.shape.map(|shape| Data::Goto(shape.name())));
        }
        let unserved = |side: &Option<Backends>| side.as_ref().and_then(Backends::unserved);
        let (was, is) = (unserved(&edit.old), unserved(&edit.new));
        if was != is {
            self.set_element(
                maps.unserved,
                key,
                is.map(|unserved| Data::Goto(ruleset::unserved_chain(unserved))),
            );
            self.present.unserved = count(self.present.unserved, was.is_some(), is.is_some());
        }
        self.stage_affinity(maps, key, (&old, &new));
        self.stage_sources(key, &old, &new);
        self.stage_cluster_ip(frontend, edit);
    }

    /// Whether an endpoint went that clients may keep, since the last call.
    pub fn take_shrunk(&mut self) -> bool {
        self.affinities.take_shrunk()
    }

    /// The ports whose clients keep their endpoint.
    pub fn affinities(&self) -> &Affinities {
        &self.affinities
    }

    fn stage_affinity(&mut self, maps: Maps, key: Cells, (old, new): (&Routed<'_>, &Routed<'_>)) {
        let lists = [
            (List::Cluster, maps.cluster_affinity, old.cluster, new.cluster),
            (List::Local, maps.local_affinity, old.local, new.local),
        ];
        for (list, map, before, after) in lists {
            let sticky = |routed: &Routed<'_>, endpoints: &[Endpoint]| {
                routed.affinity.filter(|_| !endpoints.is_empty()).cloned()
            };
            let (was, is) = (sticky(old, before), sticky(new, after));
            if let Some(affinity) = &is {
                let endpoints = after.iter().map(ruleset::endpoint_data).collect();
                let retimed = self.affinities.acquire(list, affinity, endpoints);
                self.set_element(map, key, Some(Data::Cells(Cells::default().mark(retimed.mark))));
                self.retime(retimed);
            }
            if let Some(affinity) = &was {
                if let Some(retimed) = self.affinities.release(list, affinity) {
                    self.retime(retimed);
                }
                if is.is_none() {
                    self.set_element(map, key, None);
                }
            }
        }
        self.present.affinity = !self.affinities.is_empty();
    }

    fn retime(&mut self, Retimed { mark, old, new }: Retimed) {
        if old == new {
            return;
        }
        let key = Cells::default().mark(mark);
        for (seconds, more) in new.map(|s| (s, true)).into_iter().chain(old.map(|s| (s, false))) {
            if step(&mut self.remembering, seconds, more) {
                let (name, chain) = chains::remember(seconds);
                self.set_chain(name, more.then_some(chain));
            }
        }
        let goto = new.map(|seconds| Data::Goto(chains::remember(seconds).0));
        self.set_element(ruleset::AFFINITY_TIMES, key, goto);
    }

    fn stage_sources(&mut self, key: Cells, old: &Routed<'_>, new: &Routed<'_>) {
        if old.sources == new.sources {
            return;
        }
        let range = |network: &IpNetwork| {
            (key.address(network.network()), Data::Until(key.address(network.broadcast())))
        };
        for (start, _) in old.sources.iter().map(range) {
            self.set_element(ruleset::SOURCES, start, None);
        }
        for (start, end) in new.sources.iter().map(range) {
            self.set_element(ruleset::SOURCES, start, Some(end));
        }
        let (was, is) = (!old.sources.is_empty(), !new.sources.is_empty());
        if was != is {
            self.set_element(ruleset::FILTERED, key, is.then_some(Data::None));
            self.present.filtered = count(self.present.filtered, was, is);
        }
    }

    fn stage_cluster_ip(&mut self, frontend: &Frontend, edit: &Edit<Backends>) {
        let is_cluster_ip =
            |side: &Option<Backends>| side.as_ref().is_some_and(|b| b.reach == Reach::ClusterIp);
        let Place::Address(address) = frontend.place else { return };
        let (was, is) = (is_cluster_ip(&edit.old), is_cluster_ip(&edit.new));
        if was != is && step(&mut self.cluster_ips, address, is) {
            self.set_element(
                ruleset::CLUSTER_IPS,
                Cells::default().address(address),
                is.then_some(Data::None),
            );
            self.present.cluster_ips = self.cluster_ips.len();
        }
    }

    /// Puts endpoints into the slots 0..n, leaving those that stay where they are.
    fn fill_slots(&mut self, (map, key): (&str, Cells), old_count: usize, endpoints: &[Endpoint]) {
        let slot = |i: usize| key.slot(u32::try_from(i).expect("a Service has fewer than 2^32 endpoints"));
        let held = &self.table.sets[map].elements;
        let before: Vec<Option<Cells>> = (0..old_count)
            .map(|i| match held.get(&slot(i)) {
                Some(Data::Cells(cells)) => Some(cells),
                _ => None,
            })
            .collect();
        let after = slots::assign(&before, endpoints.iter().map(ruleset::endpoint_data).collect());
        for i in 0..old_count.max(after.len()) {
            let wanted = after.get(i).copied();
            if before.get(i).copied().flatten() != wanted {
                self.set_element(map, slot(i), wanted.map(Data::Cells));
            }
        }
    }

    fn count_shape(&mut self, shape: Option<Shape>, more: bool) {
        let Some(shape) = shape else { return };
        if step(&mut self.shapes, shape, more) {
            let (name, chain) = chains::of_shape(&shape, &self.settings, self.table.family);
            self.set_chain(name, more.then_some(chain));
        }
    }

    fn count_hairpins(&mut self, routed: &Routed<'_>, more: bool) {
        for endpoint in routed.cluster.iter().chain(routed.local).filter(|e| e.local) {
            if step(&mut self.hairpins, endpoint.address, more) {
                let key = ruleset::hairpin_key(endpoint.address);
                self.set_element(ruleset::HAIRPIN, key, more.then_some(Data::None));
            }
        }
    }

    fn set_chain(&mut self, name: Name, chain: Option<Chain>) {
        if self.recording {
            return self.edits.chains.set(&mut self.table.chains, name, chain);
        }
        match chain {
            Some(chain) => drop(self.table.chains.insert(name, chain)),
            None => drop(self.table.chains.remove(&name)),
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "who calls makes it for this and for nothing else")]
    fn set_element(&mut self, name: &str, key: Cells, data: Option<Data>) {
        let set = self.table.sets.get_mut(name).expect("the table has all its sets from the start");
        let before = match &data {
            Some(data) => set.elements.insert(key, data),
            None => set.elements.remove(&key),
        };
        if self.recording {
            let edits = self.edits.elements.entry(name.into()).or_default();
            edits.record(&key, before.as_ref(), data.as_ref());
        }
    }
}

/// What of a frontend is in the table.
#[derive(Debug, Default)]
struct Routed<'a> {
    shape: Option<Shape>,
    cluster: &'a [Endpoint],
    local: &'a [Endpoint],
    sources: &'a [IpNetwork],
    affinity: Option<&'a Affinity>,
}

impl<'a> Routed<'a> {
    /// The lists that the shape's chain looks into, and no others.
    fn of(frontend: &Frontend, backends: Option<&'a Backends>) -> Self {
        let Some(backends) = backends else { return Self::default() };
        let shape = Shape::of(frontend, backends);
        let (cluster, local) = shape.map_or((false, false), |shape| shape.lists());
        Self {
            shape,
            cluster: if cluster { &backends.cluster } else { &[] },
            local: if local { &backends.local } else { &[] },
            sources: &backends.sources,
            affinity: backends.affinity.as_ref(),
        }
    }
}

fn count(total: usize, was: bool, is: bool) -> usize {
    total + usize::from(is) - usize::from(was)
}

/// Counts one use more or less; true when the first came or the last went.
fn step<K: Ord + Copy>(uses: &mut BTreeMap<K, usize>, key: K, more: bool) -> bool {
    let count = uses.entry(key).or_default();
    if more {
        *count += 1;
        return *count == 1;
    }
    *count -= 1;
    let last = *count == 0;
    if last {
        uses.remove(&key);
    }
    last
}
