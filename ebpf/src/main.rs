//! The programs: sockets of a node's cgroups are led to endpoints before a packet leaves them.
//!
//! Each reads an address from the kernel's context, asks the library where it goes, and writes the answer back. What a socket
//! was told is kept with the socket and gone with it.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(
    unsafe_code,
    reason = "helpers, contexts and values of maps are pointers that the verifier judges, not the compiler"
)]

mod maps;

use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::bpf_set_retval;
use aya_ebpf::macros::{cgroup_sock, cgroup_sock_addr};
use aya_ebpf::programs::{SockAddrContext, SockContext};
use core::ptr::{addr_of, addr_of_mut};
use heddle_ebpf::abi::{Address, FLOWS, Flow, Flows, Told, UDP, mapped};
use heddle_ebpf::select::{Answer, Ask, Choice, World, again, select};
use maps::{Kernel, count, count_refused, flows, flows_of, peer, peer_of, socket};

/// The call goes on.
const GO: i32 = 1;
/// The call fails with what [`bpf_set_retval`] was told.
const FAIL: i32 = 0;
/// `TCP_ESTABLISHED`, the state of a connected socket of any protocol.
const ESTABLISHED: u32 = 1;
/// `ECONNREFUSED`
const REFUSED: i32 = 111;

#[cgroup_sock_addr(connect4)]
fn connect4(ctx: SockAddrContext) -> i32 {
    connect(&ctx, ask(&ctx, address4(&ctx)), write4)
}

#[cgroup_sock_addr(connect6)]
fn connect6(ctx: SockAddrContext) -> i32 {
    connect(&ctx, ask(&ctx, address6(&ctx)), write6)
}

#[cgroup_sock_addr(sendmsg4)]
fn sendmsg4(ctx: SockAddrContext) -> i32 {
    send(&ctx, ask(&ctx, address4(&ctx)), write4)
}

#[cgroup_sock_addr(sendmsg6)]
fn sendmsg6(ctx: SockAddrContext) -> i32 {
    send(&ctx, ask(&ctx, address6(&ctx)), write6)
}

#[cgroup_sock_addr(recvmsg4)]
fn recvmsg4(ctx: SockAddrContext) -> i32 {
    receive(&ctx, address4(&ctx), write4)
}

#[cgroup_sock_addr(recvmsg6)]
fn recvmsg6(ctx: SockAddrContext) -> i32 {
    receive(&ctx, address6(&ctx), write6)
}

#[cgroup_sock_addr(getpeername4)]
fn getpeername4(ctx: SockAddrContext) -> i32 {
    name_peer(&ctx, address4(&ctx), write4)
}

#[cgroup_sock_addr(getpeername6)]
fn getpeername6(ctx: SockAddrContext) -> i32 {
    name_peer(&ctx, address6(&ctx), write6)
}

/// A socket ends, and with it what it was told.
#[cgroup_sock(sock_release)]
fn sock_release(ctx: SockContext) -> i32 {
    // SAFETY: the kernel's context; a read of one whole word, as it demands.
    let protocol = unsafe { addr_of!((*ctx.sock).protocol).read_volatile() };
    maps::forget(protocol as u8, socket(&ctx));
    GO
}

/// The address that a connected socket gets, for good.
#[inline(always)]
fn connect(ctx: &SockAddrContext, ask: Ask, write: impl Fn(&SockAddrContext, &Address, u16)) -> i32 {
    match select(&Kernel(ctx), &ask) {
        Answer::Pass => {
            // Others connect once.
            if ask.protocol == UDP {
                unsay(ctx);
            }
            GO
        }
        Answer::Refuse(row) => refuse(row),
        Answer::To(choice) => {
            keep(ctx, &ask, &choice);
            count(&choice);
            write(ctx, &choice.slot.address, choice.slot.port);
            GO
        }
    }
}

/// Keeps what a socket is told, for whoever asks for its peer's name. Without room for it, that would be the endpoint's; the
/// connection works.
#[inline(always)]
fn keep(ctx: &SockAddrContext, ask: &Ask, choice: &Choice) {
    let told = told_of(ctx, ask, choice);
    if maps::tell(ask.protocol, socket(ctx), &told) {
        return;
    }
    if let Some(peer) = peer(ctx) {
        *peer = told;
    }
}

/// Forgets what a UDP socket was told that may have been connected to a Service before: it is not any more.
#[inline(always)]
fn unsay(ctx: &SockAddrContext) {
    maps::forget(UDP, socket(ctx));
    if let Some(peer) = peer_of(ctx) {
        peer.told_port = 0;
    }
}

#[inline(always)]
fn told_of(ctx: &SockAddrContext, ask: &Ask, choice: &Choice) -> Told {
    Told {
        asked: ask.address,
        told: choice.slot.address,
        asked_port: ask.port,
        told_port: choice.slot.port,
        unused: 0,
        namespace: Kernel(ctx).namespace(),
    }
}

/// The address that one datagram gets: the same as the socket's last to this frontend, while that has the endpoint.
#[inline(always)]
fn send(ctx: &SockAddrContext, ask: Ask, write: impl Fn(&SockAddrContext, &Address, u16)) -> i32 {
    let before = flows_of(ctx).and_then(|flows| told(flows, &ask));
    let answer = match &before {
        Some(before) => again(&Kernel(ctx), &ask, before),
        None => select(&Kernel(ctx), &ask),
    };
    match answer {
        Answer::Pass => GO,
        Answer::Refuse(row) => refuse(row),
        Answer::To(choice) => {
            if before.is_none_or(|before| before.stamp != choice.stamp) {
                let Some(flows) = flows(ctx) else { return GO };
                note(flows, flow(&ask, &choice));
                count(&choice);
            }
            write(ctx, &choice.slot.address, choice.slot.port);
            GO
        }
    }
}

/// Whose answer it is: the frontend's, where the socket had sent to one.
#[inline(always)]
fn receive(ctx: &SockAddrContext, from: Address, write: impl Fn(&SockAddrContext, &Address, u16)) -> i32 {
    let port = port(ctx);
    if is_connected(ctx) {
        if let Some((asked, asked_port)) = asked_of(ctx, UDP, &from, port) {
            write(ctx, &asked, asked_port);
            return GO;
        }
    }
    if let Some(flows) = flows_of(ctx) {
        for i in 0..FLOWS {
            let flow = &flows.flows[i];
            if flow.told_port == port && same(&flow.told, &from) {
                write(ctx, &flow.asked, flow.asked_port);
                return GO;
            }
        }
    }
    GO
}

#[inline(always)]
fn name_peer(ctx: &SockAddrContext, at: Address, write: impl Fn(&SockAddrContext, &Address, u16)) -> i32 {
    if let Some((asked, port)) = asked_of(ctx, protocol(ctx), &at, port(ctx)) {
        write(ctx, &asked, port);
    }
    GO
}

/// What a connected socket asked for that was told this.
#[inline(always)]
fn asked_of(ctx: &SockAddrContext, protocol: u8, told: &Address, port: u16) -> Option<(Address, u16)> {
    let is_told = |known: &Told| known.told_port == port && same(&known.told, told);
    if let Some(known) = maps::told(protocol, socket(ctx)) {
        if is_told(known) {
            return Some((known.asked, known.asked_port));
        }
    }
    let known = peer_of(ctx)?;
    if is_told(known) { Some((known.asked, known.asked_port)) } else { None }
}

#[inline(always)]
fn refuse(row: u32) -> i32 {
    count_refused(row);
    // SAFETY: a helper that these programs may call.
    unsafe { bpf_set_retval(-REFUSED) };
    FAIL
}

#[inline(always)]
fn flow(ask: &Ask, choice: &Choice) -> Flow {
    Flow {
        asked: ask.address,
        told: choice.slot.address,
        asked_port: ask.port,
        told_port: choice.slot.port,
        counter: choice.slot.counter,
        stamp: choice.stamp,
    }
}

/// What the socket was told when it last asked this.
#[inline(always)]
fn told(flows: &Flows, ask: &Ask) -> Option<Choice> {
    for i in 0..FLOWS {
        let flow = &flows.flows[i];
        if flow.told_port != 0 && flow.asked_port == ask.port && same(&flow.asked, &ask.address) {
            let slot = heddle_ebpf::abi::Slot {
                address: flow.told,
                port: flow.told_port,
                unused: 0,
                counter: flow.counter,
            };
            return Some(Choice { slot, stamp: flow.stamp, kept: false });
        }
    }
    None
}

/// Keeps it in the place of what was told for the same frontend, or of the oldest.
#[inline(always)]
fn note(flows: &mut Flows, flow: Flow) {
    for i in 0..FLOWS {
        let old = &flows.flows[i];
        if old.told_port != 0 && old.asked_port == flow.asked_port && same(&old.asked, &flow.asked) {
            flows.flows[i] = flow;
            return;
        }
    }
    let at = flows.next as usize % FLOWS;
    flows.flows[at] = flow;
    flows.next = flows.next.wrapping_add(1);
}

#[inline(always)]
fn same(a: &Address, b: &Address) -> bool {
    a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3]
}

#[inline(always)]
fn ask(ctx: &SockAddrContext, address: Address) -> Ask {
    Ask { address, port: port(ctx), protocol: protocol(ctx) }
}

#[inline(always)]
fn protocol(ctx: &SockAddrContext) -> u8 {
    // SAFETY: the kernel's context; a read of one whole word, as it demands.
    unsafe { addr_of!((*ctx.sock_addr).protocol).read_volatile() as u8 }
}

/// Whether the socket is connected, of UDP too.
#[inline(always)]
fn is_connected(ctx: &SockAddrContext) -> bool {
    // SAFETY: as above; the context always has its socket.
    let socket = unsafe { addr_of!((*ctx.sock_addr).__bindgen_anon_1.sk).read_volatile() };
    // SAFETY: as above.
    unsafe { addr_of!((*socket).state).read_volatile() == ESTABLISHED }
}

#[inline(always)]
fn port(ctx: &SockAddrContext) -> u16 {
    // SAFETY: as above.
    unsafe { addr_of!((*ctx.sock_addr).user_port).read_volatile() as u16 }
}

#[inline(always)]
fn address4(ctx: &SockAddrContext) -> Address {
    // SAFETY: as above.
    mapped(unsafe { addr_of!((*ctx.sock_addr).user_ip4).read_volatile() })
}

#[inline(always)]
fn address6(ctx: &SockAddrContext) -> Address {
    let word = |i: usize| {
        // SAFETY: as above.
        unsafe { addr_of!((*ctx.sock_addr).user_ip6[i]).read_volatile() }
    };
    [word(0), word(1), word(2), word(3)]
}

#[inline(always)]
fn write_port(sock_addr: *mut bpf_sock_addr, port: u16) {
    // SAFETY: as above; the upper half is zero.
    unsafe { addr_of_mut!((*sock_addr).user_port).write_volatile(u32::from(port)) };
}

#[inline(always)]
fn write4(ctx: &SockAddrContext, address: &Address, port: u16) {
    // SAFETY: as above.
    unsafe { addr_of_mut!((*ctx.sock_addr).user_ip4).write_volatile(address[3]) };
    write_port(ctx.sock_addr, port);
}

#[inline(always)]
fn write6(ctx: &SockAddrContext, address: &Address, port: u16) {
    for i in 0..4 {
        // SAFETY: as above.
        unsafe { addr_of_mut!((*ctx.sock_addr).user_ip6[i]).write_volatile(address[i]) };
    }
    write_port(ctx.sock_addr, port);
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: the verifier takes no program that could come here.
    unsafe { core::hint::unreachable_unchecked() }
}

/// Of some helpers' use by the kernel.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
