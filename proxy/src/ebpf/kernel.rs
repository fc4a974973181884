//! The maps in the kernel.
//!
//! A load makes new ones every time, and the programs that read them; what sockets and clients were told is in maps with names,
//! which programs of later loads find again. Invariant: a chunk that a program can see is shared memory of ours, too.

use super::error::Unable;
use super::maps::{ROW_WORDS, SLOT_WORDS};
use super::needs;
use super::pins::Pins;
use super::plan;
use super::sys::{self, GROWS, Kind, SHARED, Words};
use super::tables::Tables;
use crate::tuning;
use aya::maps::{Map, MapData};
use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfLoader};
use heddle_ebpf::OBJECT;
use heddle_ebpf::abi::{self, CONNECTIONS, Client, Counted, Frontend, Kept, PORT_WORDS, ROWS, SLOTS, Slot};
use rustix::rand::{GetRandomFlags, getrandom};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use tracing::debug;

/// Room for frontends at the start; it doubles as it fills. An empty bucket takes 16 bytes.
const FIRST_ROOM: usize = 1024;

/// The maps with what sockets were told, which are kept over loads, and their names.
const KEPT: [(&str, &str); 4] =
    [("TCP_TOLD", TCP_TOLD), ("UDP_TOLD", UDP_TOLD), ("PEERS", "peers"), ("FLOWS_OF", "flows")];
/// What TCP sockets were told.
pub(super) const TCP_TOLD: &str = "tcp";
/// What connected UDP sockets were told.
pub(super) const UDP_TOLD: &str = "udp";

/// Connected sockets of a protocol that are remembered for each of the machine's cores: as many connections as kube-proxy lets the kernel
/// track for one (`conntrack.maxPerCore`). A place that nobody has takes 16 bytes.
const CONNECTIONS_PER_CORE: u32 = 32_768;
/// So many at most: what the kernel tracks by itself on machines with 4 GiB and more (`nf_conntrack_max`).
pub const MOST_CONNECTIONS: u32 = 262_144;

/// Words of a row with its counters.
const COUNTED_WORDS: usize = size_of::<Counted>() / 8;

/// Maps of one load, with the programs that read them.
#[derive(Debug)]
pub struct KernelTables {
    /// The programs by their names.
    pub(super) programs: Vec<(String, OwnedFd)>,
    frontends: OwnedFd,
    /// The map of frontends that programs look into, once there is one.
    inner: Option<OwnedFd>,
    room: usize,
    rows: Chunks,
    slots: Chunks,
    counters: Chunks,
    ports: Words,
    addresses: OwnedFd,
    known_addresses: BTreeSet<IpAddr>,
    leaves_out: Words,
    not_served: OwnedFd,
    known_left_out: BTreeSet<u64>,
    client_table: OwnedFd,
    pins: Pins,
    /// They hold maps that only programs use.
    loaded: Ebpf,
}

/// The loader. It reads the kernel's types, which are large and depend on nothing that is wanted: some may make it early.
pub(super) fn loader() -> EbpfLoader<'static> {
    EbpfLoader::new()
}

/// Chunks of shared memory, behind one map of maps.
#[derive(Debug)]
struct Chunks {
    outer: OwnedFd,
    name: &'static str,
    per_chunk: u32,
    words: usize,
    chunks: Vec<Words>,
}

impl Chunks {
    fn are_short_of(&self, count: u32) -> bool {
        self.chunks.len() < count.div_ceil(self.per_chunk) as usize
    }

    fn extend(&mut self, count: u32) -> io::Result<()> {
        let first = self.chunks.len();
        while self.are_short_of(count) {
            let sizes = (4, self.words * 8);
            let map = sys::create((Kind::Array, self.name), sizes, (self.per_chunk, SHARED))?;
            self.chunks.push(Words::share(map, self.per_chunk as usize * self.words)?);
        }
        let new: Vec<_> = self.chunks[first..].iter().map(Words::map).collect();
        let put = sys::put_maps(self.outer.as_fd(), u32::try_from(first).map_err(io::Error::other)?, &new);
        if put.is_err() {
            self.chunks.truncate(first);
        }
        put
    }

    fn place(&self, number: u32, word: usize) -> (&Words, usize) {
        let chunk = &self.chunks[(number / self.per_chunk) as usize];
        (chunk, (number % self.per_chunk) as usize * self.words + word)
    }

    fn store(&self, number: u32, word: usize, value: u64) {
        let (chunk, at) = self.place(number, word);
        chunk.store(at, value);
    }

    fn load(&self, number: u32, word: usize) -> u64 {
        let (chunk, at) = self.place(number, word);
        chunk.load(at)
    }
}

impl KernelTables {
    /// Loads programs and maps; nothing runs yet.
    ///
    /// # Errors
    /// What the kernel does not take.
    pub fn load(pins: &Pins, loader: EbpfLoader<'static>) -> Result<Self, Unable> {
        let mut epoch = [0; 4];
        getrandom(&mut epoch, GetRandomFlags::empty()).map_err(Unable::at("get a random number"))?;
        let epoch = u32::from_ne_bytes(epoch);
        let socket = UdpSocket::bind(("127.0.0.1", 0)).map_err(Unable::at("open a socket"))?;
        let node = sys::namespace_cookie(socket.as_fd())
            .map_err(Unable::at("ask for the node's network namespace"))?;
        pins.make()?;
        // What it is told lives as long as this call.
        let mut loader: EbpfLoader<'_> = loader;
        loader.override_global("EPOCH", &epoch, true).override_global("NODE_NAMESPACE", &node, true);
        let connections = connections(tuning::cores("/".as_ref()));
        loader.map_max_entries("TCP_TOLD", connections).map_max_entries("UDP_TOLD", connections);
        for (map, name) in KEPT {
            loader.map_pin_path(map, pins.session(name));
        }
        let mut loaded = loader.load(OBJECT).map_err(|error| needs::unmet("load the maps", &error))?;
        let programs = load_programs(&mut loaded)?;
        let map = |name| map(&loaded, name).map_err(Unable::at("find a map"));
        let chunks = |name, (map_name, per_chunk, words)| {
            Ok::<_, Unable>(Chunks {
                outer: map(name)?,
                name: map_name,
                per_chunk,
                words,
                chunks: Vec::new(),
            })
        };
        Ok(Self {
            frontends: map("FRONTENDS")?,
            inner: None,
            room: 0,
            rows: chunks("ROW_TABLE", ("hd_rows", ROWS, COUNTED_WORDS))?,
            slots: chunks("SLOT_TABLE", ("hd_slots", SLOTS, SLOT_WORDS))?,
            counters: chunks("ENDPOINT_COUNTS", ("hd_ep_counts", SLOTS, 1))?,
            ports: Words::share(map("NODE_PORTS")?, PORT_WORDS as usize)
                .map_err(Unable::at("share a map"))?,
            addresses: map("NODE_ADDRESS")?,
            known_addresses: BTreeSet::new(),
            leaves_out: Words::share(map("LEAVES_OUT")?, 1).map_err(Unable::at("share a map"))?,
            not_served: map("NOT_SERVED")?,
            known_left_out: BTreeSet::new(),
            client_table: map("CLIENT_TABLE")?,
            pins: pins.clone(),
            programs,
            loaded,
        })
    }

    /// Serves node ports on these addresses and on no others.
    ///
    /// # Errors
    /// When the kernel refuses one.
    pub fn set_addresses(&mut self, wanted: &BTreeSet<IpAddr>) -> io::Result<()> {
        let map = self.addresses.as_fd();
        for address in wanted.difference(&self.known_addresses) {
            sys::update(map, &words_as_bytes(plan::address(*address)), &[1])?;
        }
        for address in self.known_addresses.difference(wanted) {
            sys::delete(map, &words_as_bytes(plan::address(*address)))?;
        }
        self.known_addresses.clone_from(wanted);
        Ok(())
    }

    /// Leaves the network namespaces with these cookies out, and no others.
    ///
    /// # Errors
    /// When the kernel refuses one; those before it are left out.
    pub fn leave_out(&mut self, wanted: &BTreeSet<u64>) -> io::Result<()> {
        let map = self.not_served.as_fd();
        for cookie in self.known_left_out.difference(wanted) {
            sys::delete(map, &cookie.to_ne_bytes())?;
        }
        self.known_left_out.retain(|cookie| wanted.contains(cookie));
        let new: Vec<u64> = wanted.difference(&self.known_left_out).copied().collect();
        let put = new.into_iter().try_for_each(|cookie| {
            sys::update(map, &cookie.to_ne_bytes(), &[1])?;
            self.known_left_out.insert(cookie);
            Ok(())
        });
        // Whoever is told to look finds what was put there before.
        self.leaves_out.store(0, u64::from(!self.known_left_out.is_empty()));
        put
    }
}

/// How many connected sockets of a protocol are remembered on a machine with so many cores.
fn connections(cores: i64) -> u32 {
    let cores = u32::try_from(cores).unwrap_or(1);
    let wanted = cores.saturating_mul(CONNECTIONS_PER_CORE).min(MOST_CONNECTIONS);
    wanted.next_power_of_two().max(CONNECTIONS)
}

/// Loads the programs, in the order of their names.
fn load_programs(loaded: &mut Ebpf) -> Result<Vec<(String, OwnedFd)>, Unable> {
    let all: BTreeMap<&str, &mut Program> = loaded.programs_mut().collect();
    let mut programs = Vec::new();
    for (name, program) in all {
        let refused = |error: ProgramError| {
            if let ProgramError::LoadError { verifier_log, .. } = &error {
                debug!("program {name}: {verifier_log}");
            }
            needs::unmet(format!("load program {name}"), &error)
        };
        programs.push((name.to_owned(), load_program(program).map_err(refused)?));
    }
    Ok(programs)
}

fn load_program(program: &mut Program) -> Result<OwnedFd, ProgramError> {
    let fd = match program {
        Program::CgroupSockAddr(program) => {
            program.load()?;
            program.fd()?
        }
        Program::CgroupSock(program) => {
            program.load()?;
            program.fd()?
        }
        _ => return Err(ProgramError::UnexpectedProgramType),
    };
    Ok(fd.as_fd().try_clone_to_owned()?)
}

fn frontends(room: usize) -> io::Result<OwnedFd> {
    let entries = u32::try_from(room).map_err(io::Error::other)?;
    sys::create((Kind::Hash, "hd_frontends"), (size_of::<Frontend>(), 4), (entries, GROWS))
}

fn map(loaded: &Ebpf, name: &str) -> io::Result<OwnedFd> {
    let data = loaded
        .map(name)
        .and_then(data)
        .ok_or_else(|| io::Error::other(format!("the object has no map {name}")))?;
    data.fd().as_fd().try_clone_to_owned()
}

fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data) | Map::ArrayOfMaps(data) | Map::HashMap(data) | Map::SkStorage(data) => Some(data),
        _ => None,
    }
}

fn words_as_bytes(words: abi::Address) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (place, word) in bytes.chunks_mut(4).zip(words) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

fn key(frontend: &Frontend) -> [u8; size_of::<Frontend>()] {
    let mut bytes = [0; size_of::<Frontend>()];
    bytes[..16].copy_from_slice(&words_as_bytes(frontend.address));
    bytes[16..18].copy_from_slice(&frontend.port.to_ne_bytes());
    bytes[18..].copy_from_slice(&[frontend.protocol, frontend.scope]);
    bytes
}

impl Tables for KernelTables {
    fn room(&self) -> usize {
        self.room
    }

    fn grow(&mut self, count: usize, all: &[(Frontend, u32)]) -> io::Result<()> {
        let room = count.next_power_of_two().max(FIRST_ROOM);
        let larger = frontends(room)?;
        let (keys, rows): (Vec<_>, Vec<_>) =
            all.iter().map(|(frontend, row)| (key(frontend), row.to_ne_bytes())).unzip();
        sys::update_all(larger.as_fd(), &keys, &rows)?;
        sys::put_maps(self.frontends.as_fd(), 0, &[larger.as_fd()])?;
        (self.inner, self.room) = (Some(larger), room);
        Ok(())
    }

    fn insert(&mut self, frontend: &Frontend, row: u32) -> io::Result<()> {
        let inner = self.inner.as_ref().ok_or(io::ErrorKind::NotFound)?;
        sys::update(inner.as_fd(), &key(frontend), &row.to_ne_bytes())
    }

    fn remove(&mut self, frontend: &Frontend) -> io::Result<()> {
        let inner = self.inner.as_ref().ok_or(io::ErrorKind::NotFound)?;
        sys::delete(inner.as_fd(), &key(frontend))
    }

    fn extend(&mut self, rows: u32, slots: u32) -> io::Result<()> {
        let all = [(&mut self.rows, rows), (&mut self.slots, slots), (&mut self.counters, slots)];
        let short: Vec<_> = all.into_iter().filter(|(chunks, count)| chunks.are_short_of(*count)).collect();
        if short.is_empty() {
            return Ok(());
        }
        // The kernel makes each wait for programs that run: they wait at the same time.
        thread::scope(|scope| {
            let extend = |(chunks, count): (&'_ mut Chunks, u32)| chunks.extend(count);
            let start = |one| thread::Builder::new().spawn_scoped(scope, move || extend(one));
            let running = short.into_iter().map(start).collect::<io::Result<Vec<_>>>()?;
            let ended = running
                .into_iter()
                .map(|one| one.join().unwrap_or_else(|_| Err(io::Error::other("a thread failed"))));
            ended.collect()
        })
    }

    fn is_short_of(&self, rows: u32, slots: u32) -> bool {
        let all = [(&self.rows, rows), (&self.slots, slots), (&self.counters, slots)];
        all.iter().any(|(chunks, count)| chunks.are_short_of(*count))
    }

    fn store_row(&mut self, row: u32, word: usize, value: u64) {
        self.rows.store(row, word, value);
    }

    fn store_slot(&mut self, slot: u32, value: &Slot) {
        let Slot { address, port, unused, counter } = *value;
        let pair = |first: u32, second: u32| {
            let [a, b, c, d] = first.to_ne_bytes();
            let [e, f, g, h] = second.to_ne_bytes();
            u64::from_ne_bytes([a, b, c, d, e, f, g, h])
        };
        let [[a, b], [c, d]] = [port.to_ne_bytes(), unused.to_ne_bytes()];
        self.slots.store(slot, 0, pair(address[0], address[1]));
        self.slots.store(slot, 1, pair(address[2], address[3]));
        self.slots.store(slot, 2, pair(u32::from_ne_bytes([a, b, c, d]), counter));
    }

    fn store_ports(&mut self, word: u32, value: u64) {
        self.ports.store(word as usize, value);
    }

    fn remember(&mut self, wanted: bool) -> io::Result<()> {
        if !wanted {
            return sys::delete(self.client_table.as_fd(), &0_u32.to_ne_bytes());
        }
        let path = self.pins.session("clients");
        let clients = match sys::get(&path) {
            Ok(clients) => clients,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let sizes = (size_of::<Client>(), size_of::<Kept>());
                let clients = sys::create((Kind::LruHash, "hd_clients"), sizes, (abi::CLIENTS, 0))?;
                sys::pin(clients.as_fd(), &path)?;
                clients
            }
            Err(error) => return Err(error),
        };
        sys::put_maps(self.client_table.as_fd(), 0, &[clients.as_fd()])
    }

    fn row_count(&self, row: u32) -> [u64; 3] {
        [0, 1, 2].map(|word| self.rows.load(row, ROW_WORDS + word))
    }

    fn endpoint_count(&self, counter: u32) -> u64 {
        self.counters.load(counter, 0)
    }

    fn bytes(&self) -> io::Result<u64> {
        let chunks = [&self.rows, &self.slots, &self.counters].into_iter().flat_map(|of| &of.chunks);
        let clients = sys::get(&self.pins.session("clients")).ok();
        let known = self.loaded.maps().filter_map(|(_, map)| data(map)).map(|data| data.fd().as_fd());
        known
            .chain(self.inner.iter().map(AsFd::as_fd))
            .chain(chunks.map(Words::map))
            .chain(clients.iter().map(AsFd::as_fd))
            .map(sys::bytes)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_with_more_cores_remembers_more_sockets_up_to_what_the_kernel_tracks() {
        let of = [-1, 0, 1, 2, 3, 4, 8, 64, i64::MAX].map(connections);
        assert_eq!(
            of,
            [65_536, 65_536, 65_536, 65_536, 131_072, 131_072, 262_144, 262_144, 65_536],
            "where nobody can tell, the least"
        );
    }
}
