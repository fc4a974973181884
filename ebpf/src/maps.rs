//! The maps, and what the programs read of them.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::{Array, ArrayOfMaps, HashMap, LruHashMap, SkStorage};
use aya_ebpf::helpers::{
    bpf_get_netns_cookie, bpf_get_prandom_u32, bpf_get_socket_cookie, bpf_ktime_get_ns, bpf_loop,
};
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::SockAddrContext;
use core::arch::asm;
use core::ffi::c_void;
use core::ptr::{addr_of, addr_of_mut, from_mut};
use heddle_ebpf::abi::{
    Address, CLIENTS, CONNECTIONS, Client, Counted, Flows, Frontend, Kept, LEFT_OUT, List, NODE_ADDRESSES,
    PORT_WORDS, ROW_CHUNKS, ROWS, Row, SLOT_CHUNKS, SLOTS, Slot, TCP, Told, UDP, port_bit,
};
use heddle_ebpf::select::{Choice, World};

const GROWS: usize = BPF_F_NO_PREALLOC as usize;
const MAPPED: usize = BPF_F_MMAPABLE as usize;

/// Which maps these are; the loader sets it, as the next one.
#[unsafe(no_mangle)]
static EPOCH: u32 = 0;
/// The cookie of the node's network namespace; the loader sets it.
#[unsafe(no_mangle)]
static NODE_NAMESPACE: u64 = 0;

/// Frontend → row. A larger one takes its place when it is full.
#[btf_map]
static FRONTENDS: ArrayOfMaps<HashMap<Frontend, u32, 1024, GROWS>, 1> = ArrayOfMaps::new();
/// Row / [`ROWS`] → its chunk.
#[btf_map]
static ROW_TABLE: ArrayOfMaps<Array<Counted, { ROWS as usize }, MAPPED>, { ROW_CHUNKS as usize }> =
    ArrayOfMaps::new();
/// Slot / [`SLOTS`] → its chunk.
#[btf_map]
static SLOT_TABLE: ArrayOfMaps<Array<Slot, { SLOTS as usize }, MAPPED>, { SLOT_CHUNKS as usize }> =
    ArrayOfMaps::new();
/// Counter / [`SLOTS`] → how many connections were led to its endpoints.
#[btf_map]
static ENDPOINT_COUNTS: ArrayOfMaps<Array<u64, { SLOTS as usize }, MAPPED>, { SLOT_CHUNKS as usize }> =
    ArrayOfMaps::new();
/// A bit for each node port.
#[btf_map]
static NODE_PORTS: Array<u64, { PORT_WORDS as usize }, MAPPED> = Array::new();
/// The addresses that serve node ports.
#[btf_map]
static NODE_ADDRESS: HashMap<Address, u8, { NODE_ADDRESSES as usize }, GROWS> = HashMap::new();
/// Not zero while a namespace is left out.
#[btf_map]
static LEAVES_OUT: Array<u64, 1, MAPPED> = Array::new();
/// The cookies of namespaces that are left out.
#[btf_map]
static NOT_SERVED: HashMap<u64, u8, { LEFT_OUT as usize }, GROWS> = HashMap::new();
/// Clients that keep their endpoint; none where no Service is sticky.
#[btf_map]
static CLIENT_TABLE: ArrayOfMaps<LruHashMap<Client, Kept, { CLIENTS as usize }>, 1> = ArrayOfMaps::new();
/// The cookie of a TCP socket → what it was told. A place here costs less than one that hangs at the socket.
#[btf_map]
static TCP_TOLD: Remembered = HashMap::new();
/// The cookie of a connected UDP socket → what it was told. On its own, so that looking through it takes no longer where there is much TCP.
#[btf_map]
static UDP_TOLD: Remembered = HashMap::new();
/// What a connected socket was told that found no place in its map.
#[btf_map]
static PEERS: SkStorage<Told> = SkStorage::new();
/// What an unconnected UDP socket was told.
#[btf_map]
static FLOWS_OF: SkStorage<Flows> = SkStorage::new();

type Remembered = HashMap<u64, Told, { CONNECTIONS as usize }, GROWS>;

/// The world of a running program.
pub(crate) struct Kernel<'a>(pub(crate) &'a SockAddrContext);

/// What is looked for, and what was found.
struct Search {
    first: u32,
    port: u32,
    address: Address,
    found: Slot,
    is_found: u32,
}

/// One step of a search. Not exported: the kernel takes no global function as a callback.
extern "C" fn look_at(index: u32, search: *mut Search) -> i64 {
    // SAFETY: the kernel hands on what `bpf_loop` was given.
    let search = unsafe { &mut *search };
    let Some(slot) = slot(search.first.wrapping_add(index)) else { return 1 };
    let same = slot.address[0] == search.address[0]
        && slot.address[1] == search.address[1]
        && slot.address[2] == search.address[2]
        && slot.address[3] == search.address[3];
    if u32::from(slot.port) == search.port && same {
        search.found = slot;
        search.is_found = 1;
        return 1;
    }
    0
}

#[inline(always)]
fn slot(slot: u32) -> Option<Slot> {
    SLOT_TABLE.get_value(slot / SLOTS, &(slot % SLOTS)).copied()
}

impl World for Kernel<'_> {
    #[inline(always)]
    fn frontend(&self, frontend: &Frontend) -> Option<u32> {
        let table = FRONTENDS.get(0)?;
        // SAFETY: the kernel frees elements of such a map only after the programs that may read them.
        unsafe { table.get(frontend) }.copied()
    }

    #[inline(always)]
    fn row(&self, row: u32) -> Option<Row> {
        let counted: *const Counted = ROW_TABLE.get_value(row / ROWS, &(row % ROWS))?;
        // SAFETY: a part of a map's value.
        let row = unsafe { addr_of!((*counted).row) };
        // SAFETY: a map's value, of its type; the list is read at once.
        unsafe {
            Some(Row {
                list: List(addr_of!((*row).list.0).read_volatile()),
                affinity: (*row).affinity,
                seconds: (*row).seconds,
                flags: (*row).flags,
            })
        }
    }

    #[inline(always)]
    fn slot(&self, number: u32) -> Option<Slot> {
        slot(number)
    }

    #[inline(always)]
    fn find(&self, list: List, address: &Address, port: u16) -> Option<Slot> {
        let mut search = Search {
            first: list.first(),
            port: u32::from(port),
            address: *address,
            found: Slot::default(),
            is_found: 0,
        };
        let step: extern "C" fn(u32, *mut Search) -> i64 = look_at;
        // SAFETY: the step takes what it is handed; the search outlives the call.
        unsafe { bpf_loop(list.count(), step as *mut c_void, from_mut(&mut search).cast(), 0) };
        if search.is_found == 1 { Some(search.found) } else { None }
    }

    #[inline(always)]
    fn is_node_port(&self, protocol: u8, port: u16) -> bool {
        let (word, bit) = port_bit(protocol, port);
        NODE_PORTS.get(word).is_some_and(|bits| bits & bit != 0)
    }

    #[inline(always)]
    fn is_node_address(&self, address: &Address) -> bool {
        // SAFETY: as above.
        unsafe { NODE_ADDRESS.get(address) }.is_some()
    }

    #[inline(always)]
    fn epoch(&self) -> u32 {
        // SAFETY: it is set before the program runs, and read-only then.
        unsafe { addr_of!(EPOCH).read_volatile() }
    }

    #[inline(always)]
    fn namespace(&self) -> u64 {
        // SAFETY: a helper that these programs may call.
        unsafe { bpf_get_netns_cookie(self.0.as_ptr()) }
    }

    #[inline(always)]
    fn node_namespace(&self) -> u64 {
        // SAFETY: as the epoch.
        unsafe { addr_of!(NODE_NAMESPACE).read_volatile() }
    }

    #[inline(always)]
    fn leaves_out(&self) -> bool {
        LEAVES_OUT.get(0).is_some_and(|word| *word != 0)
    }

    #[inline(always)]
    fn is_left_out(&self, namespace: u64) -> bool {
        // SAFETY: as above.
        unsafe { NOT_SERVED.get(&namespace) }.is_some()
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: as above.
        unsafe { bpf_ktime_get_ns() }
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: as above.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn kept(&self, client: &Client) -> Option<Kept> {
        let table = CLIENT_TABLE.get(0)?;
        // SAFETY: an entry may be another client's by now (LRU): its endpoint would then be looked for in this client's list.
        unsafe { table.get(client) }.copied()
    }

    #[inline(always)]
    fn keep(&self, client: &Client, kept: &Kept) {
        if let Some(table) = CLIENT_TABLE.get(0) {
            // A client that there is no room for is served without.
            let _ = table.insert(client, kept, 0);
        }
    }
}

/// One more, whatever other processors do.
#[inline(always)]
fn add_one(counter: *mut u64) {
    // SAFETY: a word of a map's value, aligned, and nobody writes it otherwise. The compiler's atomics end where this target has
    // no compare-and-swap, in its oldest instruction set; this instruction is in all of them.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) counter, in(reg) 1_u64, options(nostack)) };
}

/// Counts a connection that was led to an endpoint.
#[inline(always)]
pub(crate) fn count(choice: &Choice) {
    if let Some(counted) = ROW_TABLE.get_value_ptr_mut(choice.stamp.row / ROWS, &(choice.stamp.row % ROWS)) {
        // SAFETY: a map's value, of its type.
        let counts = unsafe { addr_of_mut!((*counted).counts) };
        // SAFETY: as above.
        add_one(unsafe { addr_of_mut!((*counts).connections) });
        if choice.kept {
            // SAFETY: as above.
            add_one(unsafe { addr_of_mut!((*counts).kept) });
        }
    }
    let counter = choice.slot.counter;
    if let Some(connections) = ENDPOINT_COUNTS.get_value_ptr_mut(counter / SLOTS, &(counter % SLOTS)) {
        add_one(connections);
    }
}

/// Counts a connection that was refused.
#[inline(always)]
pub(crate) fn count_refused(row: u32) {
    if let Some(counted) = ROW_TABLE.get_value_ptr_mut(row / ROWS, &(row % ROWS)) {
        // SAFETY: a map's value, of its type.
        add_one(unsafe { addr_of_mut!((*counted).counts.refused) });
    }
}

/// The socket's cookie.
#[inline(always)]
pub(crate) fn socket(ctx: &impl EbpfContext) -> u64 {
    // SAFETY: a helper that these programs may call.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) }
}

/// What a connected socket was told, if it was and there was a place in the map.
#[inline(always)]
pub(crate) fn told(protocol: u8, socket: u64) -> Option<&'static Told> {
    // SAFETY: only the socket's own programs write it, and it goes with the socket.
    unsafe { if protocol == TCP { TCP_TOLD.get(&socket) } else { UDP_TOLD.get(&socket) } }
}

/// Remembers what a connected socket is told; false where there is no room.
#[inline(always)]
pub(crate) fn tell(protocol: u8, socket: u64, told: &Told) -> bool {
    let done =
        if protocol == TCP { TCP_TOLD.insert(&socket, told, 0) } else { UDP_TOLD.insert(&socket, told, 0) };
    done.is_ok()
}

/// Forgets it: the socket ends.
#[inline(always)]
pub(crate) fn forget(protocol: u8, socket: u64) {
    // Most sockets were told nothing.
    let _ = match protocol {
        TCP => TCP_TOLD.remove(&socket),
        UDP => UDP_TOLD.remove(&socket),
        _ => Ok(()),
    };
}

/// What a connected socket was told that found no place in its map.
#[inline(always)]
pub(crate) fn peer_of(ctx: &SockAddrContext) -> Option<&mut Told> {
    // SAFETY: the socket's own storage, or null; the kernel holds the socket's lock around these programs.
    unsafe { PEERS.get_ptr_mut(ctx).as_mut() }
}

/// The place for what such a socket is told.
#[inline(always)]
pub(crate) fn peer(ctx: &SockAddrContext) -> Option<&mut Told> {
    // SAFETY: as above.
    unsafe { PEERS.get_or_insert_ptr_mut(ctx, None).as_mut() }
}

/// What an unconnected socket was told, if it was.
#[inline(always)]
pub(crate) fn flows_of(ctx: &SockAddrContext) -> Option<&Flows> {
    // SAFETY: as above.
    unsafe { FLOWS_OF.get_ptr_mut(ctx).as_ref() }
}

/// The place for what an unconnected socket is told.
#[inline(always)]
pub(crate) fn flows(ctx: &SockAddrContext) -> Option<&mut Flows> {
    // SAFETY: as above.
    unsafe { FLOWS_OF.get_or_insert_ptr_mut(ctx, None).as_mut() }
}
