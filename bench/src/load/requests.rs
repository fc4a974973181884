//! Requests and answers of one byte over what is connected already, each after the answer to the one before.

use crate::Failure;
use crate::load::PATIENCE;
use crate::load::server::Hearer;
use crate::load::turns::both;
use heddle_tests::namespace::Namespace;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Instant;

/// What a series of requests gave.
#[derive(Clone, Debug)]
pub struct Requests {
    /// Microseconds of CPU of both sides for each.
    pub cpu: f64,
    /// Microseconds from each request to its answer.
    pub latencies: Vec<f64>,
}

/// Over one TCP connection.
///
/// # Errors
/// When it breaks.
pub fn tcp(
    client: &Namespace,
    listener: &TcpListener,
    to: SocketAddr,
    count: u32,
) -> Result<Requests, Failure> {
    let serve = || {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        (0..count).try_for_each(|_| {
            stream.read_exact(&mut [0])?;
            stream.write_all(b"!")
        })
    };
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        timed(count, || {
            stream.write_all(b"?")?;
            stream.read_exact(&mut [0])
        })
    };
    of(both(client, serve, ask)?, count)
}

/// From one UDP socket that is not connected, as resolvers of names have it.
///
/// # Errors
/// When an answer is missing.
pub fn udp(client: &Namespace, server: &Hearer, to: SocketAddr, count: u32) -> Result<Requests, Failure> {
    let answer = |socket: &UdpSocket, question: &[u8], from| socket.send_to(question, from).map(drop);
    let ask = || {
        let socket = UdpSocket::bind(("0.0.0.0", 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        timed(count, || {
            socket.send_to(b"?", to)?;
            socket.recv_from(&mut [0; 16]).map(drop)
        })
    };
    of(both(client, || server.hear(count, answer), ask)?, count)
}

fn timed(count: u32, mut exchange: impl FnMut() -> io::Result<()>) -> io::Result<Vec<f64>> {
    let one = |_| {
        let start = Instant::now();
        exchange()?;
        Ok(start.elapsed().as_secs_f64() * 1e6)
    };
    (0..count).map(one).collect()
}

fn of((seconds, latencies): (f64, Vec<f64>), count: u32) -> Result<Requests, Failure> {
    Ok(Requests { cpu: seconds * 1e6 / f64::from(count), latencies })
}
