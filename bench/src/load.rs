//! The load: connections and bulk data between two namespaces, in CPU time.
//!
//! Client and server take turns on one processor, so the CPU time of both threads is all that a connection costs: virtual
//! links hand a packet over within the system call that sent it. CPU time hardly minds other work on the machine, the clock
//! does. Invariant: a socket belongs to the namespace that it was opened in, and is closed when its part ends.

use crate::Failure;
use heddle_tests::namespace::Namespace;
use rustix::net::sockopt;
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

/// An attempt that takes longer has failed: no Service answers.
const PATIENCE: Duration = Duration::from_secs(5);
/// One piece of bulk data.
const PIECE: usize = 64 * 1024;

/// Opens and closes so many connections, one after the other, with a byte each way. Returns microseconds of CPU of both
/// sides for each.
///
/// # Errors
/// When one of them fails.
pub fn connections(
    client: &Namespace,
    listener: &TcpListener,
    to: SocketAddr,
    count: u32,
) -> Result<f64, Failure> {
    let greet = |_: u32| greet(listener);
    let connect = |_: u32| connect(to);
    let seconds = both(client, || (0..count).try_for_each(greet), || (0..count).try_for_each(connect))?;
    Ok(seconds * 1e6 / f64::from(count))
}

/// Sends so many bytes over one connection. Returns gigabits for each second of CPU of both sides.
///
/// # Errors
/// When the connection breaks.
pub fn bulk(client: &Namespace, listener: &TcpListener, to: SocketAddr, bytes: u64) -> Result<f64, Failure> {
    let seconds = both(client, || swallow(listener), || pour(to, bytes))?;
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
    let gigabits = bytes as f64 * 8.0 / 1e9;
    Ok(gigabits / seconds)
}

/// Sends so many datagrams from one unconnected socket, each after the answer to the one before. Returns microseconds of CPU of
/// both sides for each.
///
/// # Errors
/// When an answer is missing.
pub fn datagrams(client: &Namespace, server: &UdpSocket, to: SocketAddr, count: u32) -> Result<f64, Failure> {
    let answer = |_: u32| {
        let (size, from) = server.recv_from(&mut [0; 16])?;
        server.send_to(&[0; 16][..size], from).map(drop)
    };
    let ask = || {
        let socket = UdpSocket::bind(("0.0.0.0", 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        (0..count).try_for_each(|_| {
            socket.send_to(b"?", to)?;
            socket.recv_from(&mut [0; 16]).map(drop)
        })
    };
    let seconds = both(client, || (0..count).try_for_each(answer), ask)?;
    Ok(seconds * 1e6 / f64::from(count))
}

/// Connects one UDP socket so many times, which sends nothing. Returns microseconds of CPU for each: what the call costs.
///
/// # Errors
/// When the kernel refuses.
pub fn connects(client: &Namespace, to: SocketAddr, count: u32) -> Result<f64, Failure> {
    let connect = || {
        let socket = UdpSocket::bind(("0.0.0.0", 0))?;
        (0..count).try_for_each(|_| socket.connect(to))
    };
    let seconds = client.enter(|| costs(connect))??;
    Ok(seconds * 1e6 / f64::from(count))
}

/// A socket for [`datagrams`].
///
/// # Errors
/// When the port is taken.
pub fn hear(inside: &Namespace, port: u16) -> Result<UdpSocket, Failure> {
    let socket = inside.enter(|| UdpSocket::bind(("0.0.0.0", port)))??;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Runs both sides on one processor and returns their CPU time in seconds.
fn both(
    client: &Namespace,
    serve: impl FnOnce() -> io::Result<()> + Send,
    ask: impl FnOnce() -> io::Result<()> + Send,
) -> Result<f64, Failure> {
    thread::scope(|scope| {
        let server = scope.spawn(|| costs(serve));
        let asked = client.enter(|| costs(ask))?;
        let served = server.join().map_err(|_| "the server's thread failed")?;
        // A client that fails leaves the server waiting until its own patience ends.
        Ok(asked? + served?)
    })
}

/// Does something on the first processor that this process may use and returns the thread's CPU time in seconds.
fn costs(work: impl FnOnce() -> io::Result<()>) -> io::Result<f64> {
    let allowed = rustix::thread::sched_getaffinity(None)?;
    let mut one = CpuSet::new();
    let first = (0..CpuSet::MAX_CPU).find(|&cpu| allowed.is_set(cpu)).unwrap_or(0);
    one.set(first);
    sched_setaffinity(None, &one)?;
    let start = cpu_seconds();
    work()?;
    Ok(cpu_seconds() - start)
}

fn cpu_seconds() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = Duration::try_from(now).unwrap_or_default();
    seconds.as_secs_f64()
}

/// A listener for [`connections`] and [`bulk`].
///
/// # Errors
/// When the port is taken.
pub fn listen(inside: &Namespace, port: u16) -> Result<TcpListener, Failure> {
    let listener = inside.enter(|| TcpListener::bind(("0.0.0.0", port)))??;
    sockopt::set_socket_timeout(&listener, sockopt::Timeout::Recv, Some(PATIENCE))?;
    Ok(listener)
}

fn greet(listener: &TcpListener) -> io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.write_all(b"!")?;
    // The client resets, so that no side keeps the connection for a minute.
    let _ = stream.read(&mut [0]);
    Ok(())
}

fn connect(to: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    stream.write_all(b"?")?;
    stream.read_exact(&mut [0])
}

fn swallow(listener: &TcpListener) -> io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    let mut piece = vec![0; PIECE];
    while stream.read(&mut piece)? > 0 {}
    stream.write_all(b"!")
}

fn pour(to: SocketAddr, bytes: u64) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let copied = io::copy(&mut io::repeat(7).take(bytes), &mut io::BufWriter::with_capacity(PIECE, &stream))?;
    debug_assert_eq!(copied, bytes);
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.read_exact(&mut [0])
}
