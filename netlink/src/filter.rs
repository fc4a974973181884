//! Programs for a socket's filter (classic BPF, `SO_ATTACH_FILTER`): which messages are dropped before they are queued.

use socket2::SockFilter;

/// Where a message's header has the port (`nlmsg_pid`).
const PORT_AT: u32 = 12;

/// A message whose header has this port is dropped whole. The kernel packs several into one
/// only where they are of one commit, and so of one port.
pub(crate) fn not_from(port: u32) -> [SockFilter; 4] {
    // `BPF_LD | BPF_W | BPF_ABS`, which reads big-endian; `BPF_JMP | BPF_JEQ | BPF_K`; `BPF_RET | BPF_K`.
    const LOAD: u16 = 0x20;
    const IS: u16 = 0x15;
    const RETURN: u16 = 0x06;
    [
        SockFilter::new(LOAD, 0, 0, PORT_AT),
        SockFilter::new(IS, 0, 1, port.to_be()),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]
}
