//! Many bytes, in one flow and in several.
//!
//! Flows take turns piece by piece, on the side that sends as on the one that reads, so that neither waits for the other's
//! scheduling.

use crate::Failure;
use crate::load::server::Hearer;
use crate::load::turns::{alone, both};
use crate::load::{BATCH, PATIENCE};
use heddle_tests::namespace::Namespace;
use rustix::net::sockopt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};

/// One piece of a TCP flow, in bytes.
const PIECE: u32 = 64 * 1024;
/// What either side of a TCP flow keeps, in bytes: as much as the kernel lets a flow have by itself (`tcp_wmem`, `tcp_rmem`). How soon it comes
/// to think that a flow needs it differs from one to the next, and with it what the flow costs, by half.
const BUFFER: usize = 4 << 20;
/// One datagram, in bytes: what a link of 1 500 carries in one packet.
const DATAGRAM: u32 = 1_400;

/// Sends bytes over so many connections. Returns gigabits for each second of CPU of both sides.
///
/// # Errors
/// When a connection breaks.
pub fn tcp(
    client: &Namespace,
    listener: &TcpListener,
    to: SocketAddr,
    (flows, bytes): (u32, u64),
) -> Result<f64, Failure> {
    let pieces = bytes.div_ceil(PIECE.into());
    let serve = || {
        let accept = |_| sized(listener.accept()?.0);
        let mut streams = (0..flows).map(accept).collect::<io::Result<Vec<_>>>()?;
        let mut piece = vec![0; PIECE as usize];
        in_turn(&mut streams, pieces, |stream| stream.read_exact(&mut piece))?;
        streams.iter_mut().try_for_each(|stream| stream.write_all(b"!"))
    };
    let ask = || {
        let connect = |_| sized(TcpStream::connect_timeout(&to, PATIENCE)?);
        let mut streams = (0..flows).map(connect).collect::<io::Result<Vec<_>>>()?;
        let piece = vec![7; PIECE as usize];
        in_turn(&mut streams, pieces, |stream| stream.write_all(&piece))?;
        streams.iter_mut().try_for_each(end)
    };
    let (seconds, ()) = both(client, serve, ask)?;
    Ok(gigabits(pieces, PIECE) / seconds)
}

/// Sends bytes in datagrams of so many flows; none may be lost. Returns gigabits for each second of CPU of both sides.
///
/// # Errors
/// When a datagram is lost.
pub fn udp(
    client: &Namespace,
    server: &Hearer,
    to: SocketAddr,
    (flows, bytes): (u32, u64),
) -> Result<f64, Failure> {
    let batches = bytes.div_ceil(u64::from(DATAGRAM * BATCH));
    let datagram = [7; DATAGRAM as usize];
    let send = || {
        let mut sockets = (0..flows).map(|_| connected(to)).collect::<io::Result<Vec<_>>>()?;
        in_turn(&mut sockets, batches, |socket| {
            (0..BATCH).try_for_each(|_| socket.send(&datagram).map(drop))?;
            server.hear(BATCH, |_, _, _| Ok(()))
        })
    };
    let (seconds, ()) = alone(client, send)?;
    Ok(gigabits(batches, DATAGRAM * BATCH) / seconds)
}

/// A UDP socket of the calling thread's namespace that speaks to one address alone.
///
/// # Errors
/// When the kernel refuses.
pub fn connected(to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    socket.connect(to)?;
    Ok(socket)
}

/// A flow whose buffers do not grow.
fn sized(stream: TcpStream) -> io::Result<TcpStream> {
    sockopt::set_socket_recv_buffer_size_force(&stream, BUFFER)?;
    sockopt::set_socket_send_buffer_size_force(&stream, BUFFER)?;
    Ok(stream)
}

/// Does something so many times, with each of several in turn.
fn in_turn<T>(all: &mut [T], times: u64, mut act: impl FnMut(&mut T) -> io::Result<()>) -> io::Result<()> {
    let count = all.len();
    (0..times).zip((0..count).cycle()).try_for_each(|(_, number)| act(&mut all[number]))
}

fn end(stream: &mut TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.shutdown(Shutdown::Write)?;
    stream.read_exact(&mut [0])
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
fn gigabits(times: u64, bytes: u32) -> f64 {
    times as f64 * f64::from(bytes) * 8.0 / 1e9
}
