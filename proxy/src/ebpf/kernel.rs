//! The maps in the kernel.
//!
//! A load makes new ones every time, and the programs that read them; what sockets and clients were told is in maps with names,
//! which programs of later loads find again. Invariant: a chunk that a program can see is shared memory of ours, too.

use super::error::Unable;
use super::maps::{ROW_WORDS, SLOT_WORDS, Tables};
use super::needs;
use super::pins::Pins;
use super::plan;
use super::sys::{self, GROWS, Kind, SHARED, Words};
use aya::maps::{Map, MapData};
use aya::programs::{Program, ProgramError};
use aya::util::nr_cpus;
use aya::{Btf, Ebpf, EbpfLoader};
use heddle_ebpf::OBJECT;
use heddle_ebpf::abi::{self, Client, Counts, Frontend, Kept, PORT_WORDS, ROWS, SLOTS, Slot};
use rustix::rand::{GetRandomFlags, getrandom};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use tracing::debug;

/// Room for frontends at the start; it doubles as it fills. An empty bucket takes 16 bytes.
const FIRST_ROOM: usize = 1024;

/// Maps of one load, with the programs that read them.
#[derive(Debug)]
pub struct KernelTables {
    /// The programs by their names.
    pub(super) programs: Vec<(String, OwnedFd)>,
    frontends: OwnedFd,
    inner: OwnedFd,
    room: usize,
    rows: Chunks,
    slots: Chunks,
    row_counts: CountChunks,
    endpoint_counts: CountChunks,
    ports: Words,
    addresses: OwnedFd,
    known_addresses: BTreeSet<IpAddr>,
    leaves_out: Words,
    not_served: OwnedFd,
    known_left_out: BTreeSet<u64>,
    client_table: OwnedFd,
    /// How many there may be.
    processors: usize,
    pins: Pins,
    /// They hold maps that only programs use.
    loaded: Ebpf,
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
    fn extend(&mut self, count: u32) -> io::Result<()> {
        while self.chunks.len() < count.div_ceil(self.per_chunk) as usize {
            let sizes = (4, self.words * 8);
            let map = sys::create((Kind::Array, self.name), sizes, (self.per_chunk, SHARED))?;
            let words = Words::share(map, self.per_chunk as usize * self.words)?;
            let index = u32::try_from(self.chunks.len()).map_err(io::Error::other)?;
            sys::put_map(self.outer.as_fd(), index, words.map())?;
            self.chunks.push(words);
        }
        Ok(())
    }

    fn store(&self, number: u32, word: usize, value: u64) {
        let chunk = &self.chunks[(number / self.per_chunk) as usize];
        chunk.store((number % self.per_chunk) as usize * self.words + word, value);
    }
}

/// Chunks of counters, one of each processor.
#[derive(Debug)]
struct CountChunks {
    outer: OwnedFd,
    name: &'static str,
    per_chunk: u32,
    size: usize,
    chunks: Vec<OwnedFd>,
}

impl CountChunks {
    fn extend(&mut self, count: u32) -> io::Result<()> {
        while self.chunks.len() < count.div_ceil(self.per_chunk) as usize {
            let map = sys::create((Kind::PerCpuArray, self.name), (4, self.size), (self.per_chunk, 0))?;
            let index = u32::try_from(self.chunks.len()).map_err(io::Error::other)?;
            sys::put_map(self.outer.as_fd(), index, map.as_fd())?;
            self.chunks.push(map);
        }
        Ok(())
    }

    /// The sums over all processors, word by word, of all counters.
    fn read(&self, processors: usize) -> io::Result<Vec<u64>> {
        let words = self.size / 8;
        let mut sums = Vec::new();
        let mut values = vec![0; self.per_chunk as usize * processors * words];
        for chunk in &self.chunks {
            sys::read_array(chunk.as_fd(), self.per_chunk, &mut values)?;
            sums.extend(values.chunks(processors * words).flat_map(|of_one| sum(of_one, words)));
        }
        Ok(sums)
    }

    /// The same of one.
    fn read_one(&self, number: u32, processors: usize) -> io::Result<Vec<u64>> {
        let words = self.size / 8;
        let mut values = vec![0; processors * words];
        let chunk = self.chunks.get((number / self.per_chunk) as usize);
        let chunk = chunk.ok_or(io::ErrorKind::NotFound)?;
        sys::read(chunk.as_fd(), number % self.per_chunk, &mut values)?;
        Ok(sum(&values, words).collect())
    }
}

/// What all processors have of each word.
fn sum(values: &[u64], words: usize) -> impl Iterator<Item = u64> {
    (0..words).map(move |word| values.iter().skip(word).step_by(words).sum())
}

impl KernelTables {
    /// Loads programs and maps; nothing runs yet.
    ///
    /// # Errors
    /// What the kernel does not take.
    pub fn load(pins: &Pins) -> Result<Self, Unable> {
        let mut epoch = [0; 4];
        getrandom(&mut epoch, GetRandomFlags::empty()).map_err(Unable::at("get a random number"))?;
        let epoch = u32::from_ne_bytes(epoch);
        let socket = UdpSocket::bind(("127.0.0.1", 0)).map_err(Unable::at("open a socket"))?;
        let node = sys::namespace_cookie(socket.as_fd())
            .map_err(Unable::at("ask for the node's network namespace"))?;
        let processors = nr_cpus().map_err(|(what, source)| Unable::new(what, source))?;
        pins.make()?;
        let (peers, flows) = (pins.session("peers"), pins.session("flows"));
        let mut loader = EbpfLoader::new();
        loader.override_global("EPOCH", &epoch, true).override_global("NODE_NAMESPACE", &node, true);
        loader.map_pin_path("PEERS", peers.as_path()).map_pin_path("FLOWS_OF", flows.as_path());
        let mut loaded = loader.load(OBJECT).map_err(|error| needs::unmet("load the maps", &error))?;
        let programs = load_programs(&mut loaded)?;
        let inner = frontends(FIRST_ROOM).map_err(Unable::at("make the map of frontends"))?;
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
        let counts = |name, (map_name, per_chunk, size)| {
            Ok::<_, Unable>(CountChunks {
                outer: map(name)?,
                name: map_name,
                per_chunk,
                size,
                chunks: Vec::new(),
            })
        };
        let tables = Self {
            frontends: map("FRONTENDS")?,
            room: FIRST_ROOM,
            rows: chunks("ROW_TABLE", ("hd_rows", ROWS, ROW_WORDS))?,
            slots: chunks("SLOT_TABLE", ("hd_slots", SLOTS, SLOT_WORDS))?,
            row_counts: counts("ROW_COUNTS", ("hd_row_counts", ROWS, size_of::<Counts>()))?,
            endpoint_counts: counts("ENDPOINT_COUNTS", ("hd_ep_counts", SLOTS, 8))?,
            ports: Words::share(map("NODE_PORTS")?, PORT_WORDS as usize)
                .map_err(Unable::at("share a map"))?,
            addresses: map("NODE_ADDRESS")?,
            known_addresses: BTreeSet::new(),
            leaves_out: Words::share(map("LEAVES_OUT")?, 1).map_err(Unable::at("share a map"))?,
            not_served: map("NOT_SERVED")?,
            known_left_out: BTreeSet::new(),
            client_table: map("CLIENT_TABLE")?,
            processors,
            pins: pins.clone(),
            programs,
            inner,
            loaded,
        };
        sys::put_map(tables.frontends.as_fd(), 0, tables.inner.as_fd())
            .map_err(Unable::at("fill a map of maps"))?;
        Ok(tables)
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
        Program::Iter(program) => {
            let kernel = Btf::from_sys_fs()?;
            program.load("bpf_sk_storage_map", &kernel)?;
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
        let room = count.next_power_of_two();
        let larger = frontends(room)?;
        for (frontend, row) in all {
            sys::update(larger.as_fd(), &key(frontend), &row.to_ne_bytes())?;
        }
        sys::put_map(self.frontends.as_fd(), 0, larger.as_fd())?;
        (self.inner, self.room) = (larger, room);
        Ok(())
    }

    fn insert(&mut self, frontend: &Frontend, row: u32) -> io::Result<()> {
        sys::update(self.inner.as_fd(), &key(frontend), &row.to_ne_bytes())
    }

    fn remove(&mut self, frontend: &Frontend) -> io::Result<()> {
        sys::delete(self.inner.as_fd(), &key(frontend))
    }

    fn extend(&mut self, rows: u32, slots: u32) -> io::Result<()> {
        self.rows.extend(rows)?;
        self.row_counts.extend(rows)?;
        self.slots.extend(slots)?;
        self.endpoint_counts.extend(slots)
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
        sys::put_map(self.client_table.as_fd(), 0, clients.as_fd())
    }

    fn row_counts(&self) -> io::Result<Vec<[u64; 3]>> {
        let sums = self.row_counts.read(self.processors)?;
        Ok(sums.as_chunks().0.to_vec())
    }

    fn row_count(&self, row: u32) -> io::Result<[u64; 3]> {
        let sums = self.row_counts.read_one(row, self.processors)?;
        <[u64; 3]>::try_from(sums).map_err(|_| io::ErrorKind::InvalidData.into())
    }

    fn endpoint_counts(&self) -> io::Result<Vec<[u64; 1]>> {
        Ok(self.endpoint_counts.read(self.processors)?.into_iter().map(|count| [count]).collect())
    }

    fn endpoint_count(&self, counter: u32) -> io::Result<[u64; 1]> {
        let sums = self.endpoint_counts.read_one(counter, self.processors)?;
        <[u64; 1]>::try_from(sums).map_err(|_| io::ErrorKind::InvalidData.into())
    }

    fn bytes(&self) -> io::Result<u64> {
        let chunks = [&self.rows, &self.slots].into_iter().flat_map(|of| &of.chunks);
        let counts = [&self.row_counts, &self.endpoint_counts].into_iter().flat_map(|of| &of.chunks);
        let clients = sys::get(&self.pins.session("clients")).ok();
        let known = self.loaded.maps().filter_map(|(_, map)| data(map)).map(|data| data.fd().as_fd());
        known
            .chain([self.inner.as_fd()])
            .chain(chunks.map(Words::map))
            .chain(counts.map(AsFd::as_fd))
            .chain(clients.iter().map(AsFd::as_fd))
            .map(sys::bytes)
            .sum()
    }
}
