//! New connections: what each costs, and how long its first packet takes there and back.
//!
//! One after the other, each with a byte in both directions. The client resets them, so that no side keeps one for a minute.

use crate::Failure;
use crate::load::PATIENCE;
use crate::load::turns::{alone, both};
use heddle_tests::namespace::Namespace;
use rustix::net::sockopt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// What a series of connections gave.
#[derive(Clone, Debug)]
pub struct Connections {
    /// Microseconds of CPU of both sides for each.
    pub cpu: f64,
    /// Microseconds from each call of `connect` until the answer to its SYN was there.
    pub first: Vec<f64>,
}

/// Opens and closes so many connections; `to` says where each goes.
///
/// # Errors
/// When one of them fails.
pub fn connections(
    client: &Namespace,
    listener: &TcpListener,
    count: u32,
    to: impl Fn(u32) -> SocketAddr + Sync,
) -> Result<Connections, Failure> {
    let serve = || (0..count).try_for_each(|_| greet(listener));
    let ask = || (0..count).map(|number| connect(to(number))).collect::<io::Result<Vec<f64>>>();
    let (seconds, first) = both(client, serve, ask)?;
    Ok(Connections { cpu: seconds * 1e6 / f64::from(count), first })
}

/// Connects one UDP socket so many times, which sends nothing. Returns microseconds of CPU for each: what the call costs.
///
/// # Errors
/// When the kernel refuses.
pub fn calls(client: &Namespace, to: SocketAddr, count: u32) -> Result<f64, Failure> {
    let connect = || {
        let socket = UdpSocket::bind(("0.0.0.0", 0))?;
        (0..count).try_for_each(|_| socket.connect(to))
    };
    let (seconds, ()) = alone(client, connect)?;
    Ok(seconds * 1e6 / f64::from(count))
}

fn greet(listener: &TcpListener) -> io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.write_all(b"!")?;
    let _ = stream.read(&mut [0]);
    Ok(())
}

/// Returns the microseconds that its first packet took.
fn connect(to: SocketAddr) -> io::Result<f64> {
    let start = Instant::now();
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    let first = start.elapsed();
    stream.set_read_timeout(Some(PATIENCE))?;
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    stream.write_all(b"?")?;
    stream.read_exact(&mut [0])?;
    Ok(first.as_secs_f64() * 1e6)
}
