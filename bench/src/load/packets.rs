//! Small datagrams without answers, sent by some and heard by some: none is lost.
//!
//! A flow is new when nobody has sent from its port to that address since connections were last forgotten. Sockets are opened before
//! the clock runs: what counts is the packet.

use crate::Failure;
use crate::cluster::TARGET;
use crate::load::BATCH;
use crate::load::bulk::connected;
use crate::load::server::Hearer;
use crate::load::turns::{alone, cpu_seconds};
use heddle_tests::namespace::Namespace;
use std::io;
use std::net::{SocketAddr, UdpSocket};

/// The first port that flows come from, and how many there are: those beyond are left to the kernel's choice. On loopback the server's is one of the
/// client's own.
const PORTS: (u16, u32) = (8_192, 24_000);
const _: () = assert!(TARGET < PORTS.0);

/// Sends at least so many packets of one flow. Returns packets for each second of CPU of both sides.
///
/// # Errors
/// When one is lost.
pub fn established(client: &Namespace, server: &Hearer, to: SocketAddr, count: u32) -> Result<f64, Failure> {
    let batches = count.div_ceil(BATCH);
    let send = || {
        let socket = connected(to)?;
        (0..batches).try_for_each(|_| {
            (0..BATCH).try_for_each(|_| socket.send(b".").map(drop))?;
            server.hear(BATCH, |_, _, _| Ok(()))
        })
    };
    let (seconds, ()) = alone(client, send)?;
    Ok(f64::from(batches * BATCH) / seconds)
}

/// Sends at least so many packets, each from a port of its own, of which there are 24 000. Returns packets for each second of CPU
/// of both sides.
///
/// # Errors
/// When one is lost.
pub fn new(client: &Namespace, server: &Hearer, to: SocketAddr, count: u32) -> Result<f64, Failure> {
    let batches = count.min(PORTS.1).div_ceil(BATCH);
    let send = || (0..batches).map(|batch| send_new(server, to, batch * BATCH)).sum::<io::Result<f64>>();
    let (_, seconds) = alone(client, send)?;
    Ok(f64::from(batches * BATCH) / seconds)
}

/// One packet each of a batch of flows. Returns the seconds of CPU without those of opening and closing.
fn send_new(server: &Hearer, to: SocketAddr, first: u32) -> io::Result<f64> {
    let open = |flow: u32| {
        let port = u16::try_from(first + flow).map_err(io::Error::other)? + PORTS.0;
        UdpSocket::bind(("0.0.0.0", port))
    };
    let sockets = (0..BATCH).map(open).collect::<io::Result<Vec<_>>>()?;
    let start = cpu_seconds();
    sockets.iter().try_for_each(|socket| socket.send_to(b".", to).map(drop))?;
    server.hear(BATCH, |_, _, _| Ok(()))?;
    Ok(cpu_seconds() - start)
}
