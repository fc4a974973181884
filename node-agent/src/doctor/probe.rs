//! Sends packets of full size, none of which may be cut on the way, and hears what becomes of them.
//!
//! Not what they mean ([`mtu`](super::mtu)). It needs no right: they are UDP datagrams to a port that nobody listens at, and
//! the refusal (ICMP) of the other side comes back as an error of the socket. Invariant: whatever is silent, it ends
//! after the last of `ROUNDS`.

use super::mtu::{Answer, Target};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

/// The first port of traceroute's: nobody listens there.
const PORT: u16 = 33434;
/// What a header of IPv4 or IPv6, and of UDP, takes of a packet, in bytes.
const HEADERS: (u32, u32) = (20 + 8, 40 + 8);
/// What fits everywhere, in bytes of payload.
const SMALL: usize = 64;
/// When each round ends, in milliseconds from the start. A kernel refuses six packets of one sender in a row and then one
/// a second; this sends five.
const ROUNDS: [u64; 3] = [300, 900, 2000];

/// What an error of a socket says of its packet.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Heard {
    /// It arrived.
    Arrived,
    /// It is larger than this.
    TooLarge(u32),
    /// There is no way there.
    NoWay(String),
}

/// A socket to a target, and what it has heard first.
struct Line {
    socket: UdpSocket,
    payload: usize,
    heard: Option<Heard>,
}

/// A target, asked with a packet of full size and, while that has no answer, a small one.
struct Trial {
    full: Line,
    small: Line,
}

/// Asks all of them at once.
pub fn ask(targets: Vec<Target>) -> Vec<(Target, Answer)> {
    let mut trials: Vec<_> = targets.iter().map(Trial::open).collect();
    let begun = Instant::now();
    for (round, end) in ROUNDS.into_iter().enumerate() {
        trials.iter_mut().flatten().for_each(|trial| trial.send(round));
        listen(&mut trials, begun + Duration::from_millis(end));
    }
    let answer = |trial: io::Result<Trial>| match trial {
        Ok(trial) => trial.answer(),
        Err(error) => Answer::Refused(error.to_string()),
    };
    targets.into_iter().zip(trials.into_iter().map(answer)).collect()
}

/// Hears answers until all are there or the time is over.
fn listen(trials: &mut [io::Result<Trial>], end: Instant) {
    loop {
        let mut open: Vec<&mut Line> = trials
            .iter_mut()
            .flatten()
            .filter(|trial| trial.full.heard.is_none())
            .flat_map(Trial::lines)
            .collect();
        let left = end.saturating_duration_since(Instant::now());
        if open.is_empty() || left.is_zero() {
            return;
        }
        let mut polled: Vec<PollFd<'_>> =
            open.iter().map(|line| PollFd::new(&line.socket, PollFlags::IN | PollFlags::ERR)).collect();
        let timeout = Timespec::try_from(left).ok();
        match poll(&mut polled, timeout.as_ref()) {
            Ok(0) => return,
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
        let ready: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        open.iter_mut().zip(ready).filter(|(_, ready)| *ready).for_each(|(line, _)| line.hear());
    }
}

impl Trial {
    fn open(target: &Target) -> io::Result<Self> {
        let headers = if target.address.is_ipv4() { HEADERS.0 } else { HEADERS.1 };
        // No datagram is larger, however large loopback's packets are.
        let payload = usize::try_from(target.size.saturating_sub(headers)).unwrap_or(0).min(65_000);
        Ok(Self { full: Line::open(target.address, payload)?, small: Line::open(target.address, SMALL)? })
    }

    fn lines(&mut self) -> [&mut Line; 2] {
        [&mut self.full, &mut self.small]
    }

    fn send(&mut self, round: usize) {
        if self.full.heard.is_none() {
            self.full.send();
            // Where all is well, it is never needed.
            if round > 0 {
                self.small.send();
            }
        }
    }

    fn answer(self) -> Answer {
        match (self.full.heard, self.small.heard) {
            (Some(Heard::Arrived), _) => Answer::Whole,
            (Some(Heard::TooLarge(mtu)), _) => Answer::Smaller(mtu),
            (Some(Heard::NoWay(why)), _) | (None, Some(Heard::NoWay(why))) => Answer::Refused(why),
            (None, Some(Heard::Arrived | Heard::TooLarge(_))) => Answer::Lost,
            (None, None) => Answer::Silent,
        }
    }
}

impl Line {
    fn open(to: IpAddr, payload: usize) -> io::Result<Self> {
        let any: IpAddr =
            if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_nonblocking(true)?;
        // Whole or not at all, and whatever the kernel remembers of the way from before.
        if to.is_ipv4() {
            sockopt::set_ip_mtu_discover(&socket, sockopt::Ipv4PathMtuDiscovery::PROBE)?;
        } else {
            sockopt::set_ipv6_mtu_discover(&socket, sockopt::Ipv6PathMtuDiscovery::PROBE)?;
        }
        socket.connect((to, PORT))?;
        Ok(Self { socket, payload, heard: None })
    }

    fn send(&mut self) {
        if let Err(error) = self.socket.send(&vec![0; self.payload]) {
            self.note(&error);
        }
    }

    fn hear(&mut self) {
        if let Ok(Some(error)) = self.socket.take_error() {
            return self.note(&error);
        }
        // Somebody listens there after all, and answers.
        if self.socket.recv(&mut [0; 1]).is_ok() {
            self.heard.get_or_insert(Heard::Arrived);
        }
    }

    fn note(&mut self, error: &io::Error) {
        let heard = match (error.kind(), Errno::from_io_error(error)) {
            (ErrorKind::ConnectionRefused, _) => Heard::Arrived,
            (_, Some(Errno::MSGSIZE)) => Heard::TooLarge(self.mtu()),
            (ErrorKind::WouldBlock | ErrorKind::Interrupted, _) | (_, Some(Errno::NOBUFS)) => return,
            _ => Heard::NoWay(error.to_string()),
        };
        self.heard.get_or_insert(heard);
    }

    /// What the kernel has learnt of the way; 0 when it says nothing.
    fn mtu(&self) -> u32 {
        let is_v4 = self.socket.peer_addr().is_ok_and(|to| to.is_ipv4());
        let mtu = if is_v4 { sockopt::ip_mtu(&self.socket) } else { sockopt::ipv6_mtu(&self.socket) };
        mtu.unwrap_or(0)
    }
}
