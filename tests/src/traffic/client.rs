//! One attempt at a time, and how it ended.

use crate::namespace::{self, Namespace};
use crate::traffic::Transport;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// How long a client waits for an answer: longer than the kernel takes to repeat a lost SYN (1 s), so that a single
/// lost packet on a loaded machine is not taken for a hole in the rules.
pub const PATIENT: Duration = Duration::from_secs(4);

/// How one attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// A server answered.
    Answer {
        /// The server's name.
        endpoint: String,
        /// The client's address as the server saw it.
        source: IpAddr,
    },
    /// The port is refused: a reset, or ICMP port unreachable.
    Refused,
    /// Nothing came back in time.
    Timeout,
    /// There is no way to the address: ICMP network, host or policy unreachable, or no route.
    Unreachable,
    /// Something else went wrong, in the kernel's words.
    Broken(String),
}

impl Outcome {
    /// Name of the server that answered, if one did.
    pub fn endpoint(&self) -> Option<&str> {
        match self {
            Self::Answer { endpoint, .. } => Some(endpoint),
            _ => None,
        }
    }

    /// The client's address as the server saw it, if one answered.
    pub fn source(&self) -> Option<IpAddr> {
        match self {
            Self::Answer { source, .. } => Some(*source),
            _ => None,
        }
    }

    fn of_line(line: &str) -> Self {
        let Some((endpoint, source)) = line.trim_end().split_once(' ') else {
            return Self::Broken(format!("the answer {line:?}"));
        };
        match source.parse() {
            Ok(source) => Self::Answer { endpoint: endpoint.to_owned(), source },
            Err(_) => Self::Broken(format!("the answer {line:?}")),
        }
    }
}

impl From<io::Error> for Outcome {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::Refused,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::Timeout,
            // Linux gives EACCES for ICMP "administratively prohibited" over IPv6, EHOSTUNREACH over IPv4.
            ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable | ErrorKind::PermissionDenied => {
                Self::Unreachable
            }
            _ => Self::Broken(error.to_string()),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer { endpoint, source } => write!(f, "{endpoint} (source {source})"),
            Self::Refused => f.write_str("refused"),
            Self::Timeout => f.write_str("timeout"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::Broken(how) => write!(f, "broken: {how}"),
        }
    }
}

/// One TCP connection from a namespace.
///
/// # Errors
/// Only when the namespace cannot be entered: whatever the network does is an [`Outcome`].
pub fn tcp(from: &Namespace, to: SocketAddr) -> Result<Outcome, namespace::Error> {
    attempt(from, Transport::Tcp, to)
}

/// One UDP datagram and its answer from a namespace.
///
/// # Errors
/// As [`tcp`].
pub fn udp(from: &Namespace, to: SocketAddr) -> Result<Outcome, namespace::Error> {
    attempt(from, Transport::Udp, to)
}

/// One attempt from a namespace, waiting at most [`PATIENT`].
///
/// # Errors
/// As [`tcp`].
pub fn attempt(from: &Namespace, transport: Transport, to: SocketAddr) -> Result<Outcome, namespace::Error> {
    from.enter(|| attempt_here(transport, to, PATIENT))
}

/// How `count` attempts from a namespace ended, one after the other.
///
/// # Errors
/// As [`tcp`].
pub fn spread(
    from: &Namespace,
    transport: Transport,
    to: SocketAddr,
    count: usize,
) -> Result<BTreeMap<Outcome, usize>, namespace::Error> {
    from.enter(|| {
        let mut seen = BTreeMap::new();
        for _ in 0..count {
            *seen.entry(attempt_here(transport, to, PATIENT)).or_default() += 1;
        }
        seen
    })
}

/// One attempt from the calling thread's namespace, for threads that were started inside one.
pub fn attempt_here(transport: Transport, to: SocketAddr, limit: Duration) -> Outcome {
    match transport {
        Transport::Tcp => ask_tcp(to, limit),
        Transport::Udp => ask_udp(to, limit),
    }
    .map_or_else(Outcome::from, |line| Outcome::of_line(&line))
}

fn ask_tcp(to: SocketAddr, limit: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, limit)?;
    stream.set_read_timeout(Some(limit))?;
    let mut line = String::new();
    stream.read_to_string(&mut line)?;
    Ok(line)
}

fn ask_udp(to: SocketAddr, limit: Duration) -> io::Result<String> {
    let any = if to.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(limit))?;
    match socket.send(b"who answers?\n") {
        // A datagram rejected on its way out of this host fails so; the ICMP error that says why is queued.
        Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {}
        sent => drop(sent?),
    }
    let mut answer = [0; 256];
    let len = socket.recv(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..len]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_the_endpoint_and_the_source() {
        let outcome = Outcome::of_line("web-1 10.244.1.3\n");
        assert_eq!(
            (outcome.endpoint(), outcome.source()),
            (Some("web-1"), Some("10.244.1.3".parse().unwrap()))
        );
        assert_eq!(outcome.to_string(), "web-1 (source 10.244.1.3)");
    }

    #[test]
    fn an_answer_that_is_not_ours_is_broken() {
        assert_eq!(
            Outcome::of_line("HTTP/1.1 400\n"),
            Outcome::Broken("the answer \"HTTP/1.1 400\\n\"".into())
        );
        assert!(matches!(Outcome::of_line(""), Outcome::Broken(_)));
    }
}
