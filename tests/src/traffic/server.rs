//! A server that tells its name and the address that it saw.

use crate::namespace::{self, Namespace};
use crate::traffic::Transport;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its port could not be opened.
    #[error("listen on {transport} port {port} in {namespace}")]
    Listen {
        /// The transport.
        transport: Transport,
        /// The port.
        port: u16,
        /// Name of the namespace.
        namespace: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// There is no way into its namespace.
    #[error(transparent)]
    Namespace(#[from] namespace::Error),
}

/// A server on one port, for IPv4 and IPv6. Its port is closed when this value is dropped.
#[derive(Debug)]
pub struct Server {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

enum Socket {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl Server {
    /// Opens the port inside the namespace and answers with `name` from then on. Port 0 is refused by nobody, but
    /// cannot be asked for afterwards.
    ///
    /// From then on the namespace keeps no ends of closed connections (`TIME_WAIT`). Clients behind one masqueraded address
    /// cannot know which of its ports are held so; the old end would answer a SYN from one of those with an ACK, and the
    /// client repeat the SYN, whatever the rules do. Here a repeated SYN shall mean a lost one.
    ///
    /// # Errors
    /// [`Error::Listen`] when the port is taken.
    pub fn start(inside: &Namespace, name: &str, transport: Transport, port: u16) -> Result<Self, Error> {
        let failed = |source| Error::Listen { transport, port, namespace: inside.name().to_owned(), source };
        inside.sysctl("ipv4/tcp_max_tw_buckets", "0")?;
        let socket = inside.enter(|| Socket::open(transport, port))?.map_err(failed)?;
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).map_err(|e| failed(e.into()))?);
        let (stopped, name) = (Arc::clone(&stop), name.to_owned());
        let thread = thread::Builder::new()
            .name(format!("server {name}"))
            .spawn(move || socket.serve(&name, &stopped))
            .map_err(failed)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Socket {
    /// A socket bound to `[::]` takes IPv4 too (`net.ipv6.bindv6only` is 0 in a new namespace).
    fn open(transport: Transport, port: u16) -> io::Result<Self> {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        Ok(match transport {
            Transport::Tcp => {
                let listener = TcpListener::bind(any)?;
                listener.set_nonblocking(true)?;
                Self::Tcp(listener)
            }
            Transport::Udp => {
                let socket = UdpSocket::bind(any)?;
                socket.set_nonblocking(true)?;
                Self::Udp(socket)
            }
        })
    }

    fn serve(&self, name: &str, stop: &OwnedFd) {
        let own = match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Udp(socket) => socket.as_fd(),
        };
        loop {
            let mut ready = [PollFd::new(&own, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
            let polled = poll(&mut ready, None);
            if ready[1].revents().contains(PollFlags::IN) {
                return;
            }
            match polled {
                Ok(_) => self.answer(name),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Answers what is queued. A client that went away is its own affair.
    fn answer(&self, name: &str) {
        match self {
            Self::Tcp(listener) => {
                while let Ok((mut stream, peer)) = listener.accept() {
                    let _ = stream.write_all(line(name, peer.ip()).as_bytes());
                }
            }
            Self::Udp(socket) => {
                let mut question = [0; 64];
                while let Ok((_, peer)) = socket.recv_from(&mut question) {
                    let _ = socket.send_to(line(name, peer.ip()).as_bytes(), peer);
                }
            }
        }
    }
}

fn line(name: &str, peer: IpAddr) -> String {
    format!("{name} {}\n", peer.to_canonical())
}
