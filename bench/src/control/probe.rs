//! A Service that leads to one of three servers, and a client that asks it again and again: when a change counts for a connection,
//! whatever the proxy is.
//!
//! Invariant: the client pauses longer the longer it waits, so that it takes little of what the proxy needs, and a time that it finds is
//! late by a hundredth or by 5 ms, whichever is less.

use crate::Failure;
use crate::cluster::{self, TARGET};
use crate::interrupt::Interrupt;
use heddle_tests::lab::{Lab, Node, Pod};
use heddle_tests::namespace::{self, Namespace};
use rustix::net::{Shutdown, shutdown, sockopt};
use serde_json::Value;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// More than any proxy needs for the largest cluster.
const PATIENCE: Duration = Duration::from_secs(900);
/// Between two looks whether anybody still waits, and the proxy still runs.
const LOOK: Duration = Duration::from_millis(20);
/// The shortest and the longest pause between two connections.
const PAUSES: [Duration; 2] = [Duration::from_micros(50), Duration::from_millis(5)];
/// The shortest and the longest time that an answer may take: without rules there is none, and the next attempt may have one.
const ANSWERS: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(500)];
/// The name of the one node.
const NODE: &str = "node-1";

/// A node with a client and three servers in pods.
pub struct Ground {
    servers: Vec<Server>,
    client: Pod,
    lab: Lab,
}

/// A pod that answers every connection with its number.
struct Server {
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
    pod: Pod,
}

/// One of the servers.
pub type Number = u8;

impl Ground {
    /// Builds it; with a cgroup of the node's own where the proxy serves sockets.
    ///
    /// # Errors
    /// Mostly when the process is not root.
    pub fn build(at_sockets: bool) -> Result<Self, Failure> {
        let lab = if at_sockets { Lab::with_sockets(&[NODE])? } else { Lab::new(&[NODE])? };
        let node = &lab.nodes()[0];
        let client = node.pod("client")?;
        let servers = (0..3).map(|number| Server::open(node, number)).collect::<Result<_, Failure>>()?;
        Ok(Self { servers, client, lab })
    }

    /// The node.
    pub fn node(&self) -> &Node {
        &self.lab.nodes()[0]
    }

    /// The slice that leads the Service to a server.
    pub fn leading_to(&self, number: Number) -> Value {
        let server = &self.servers[usize::from(number)];
        cluster::probed_slice(NODE, server.pod.addresses())
    }

    /// Begins to ask.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub fn watch(&self) -> Result<Watch, Failure> {
        Watch::begin(self.client.namespace(), cluster::probed_address())
    }
}

impl Server {
    fn open(node: &Node, number: Number) -> Result<Self, Failure> {
        let pod = node.pod(&format!("server-{number}"))?;
        let listener = pod.namespace().enter(|| TcpListener::bind(("0.0.0.0", TARGET)))??;
        let heard = listener.try_clone()?;
        let answer = move || {
            for stream in heard.incoming() {
                match stream {
                    // The client may have given up.
                    Ok(mut stream) => drop(stream.write_all(&[number])),
                    Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                    Err(_) => return,
                }
            }
        };
        let thread = thread::Builder::new().name("answers".to_owned()).spawn(answer)?;
        Ok(Self { listener, thread: Some(thread), pod })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Whoever waits for a connection is told that there will be none.
        let _ = shutdown(&self.listener, Shutdown::Both);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// A client that asks until this value is dropped.
pub struct Watch {
    answers: Receiver<(Instant, Number)>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), namespace::Error>>>,
}

/// The first answer of the server that was awaited.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// When its connection stood.
    pub at: Instant,
    /// How often another server's answers began before.
    pub others: u32,
}

impl Watch {
    fn begin(client: &Namespace, to: SocketAddr) -> Result<Self, Failure> {
        let (tell, answers) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = client.spawn(move || ask_on(to, &told, &tell))?;
        Ok(Self { answers, stop, thread: Some(thread) })
    }

    /// Waits until a server answers; `check` says whether the proxy still runs.
    ///
    /// # Errors
    /// When it never does, `check` fails, or the run is interrupted.
    pub fn until(
        &self,
        number: Number,
        stop: &Interrupt,
        mut check: impl FnMut() -> Result<(), Failure>,
    ) -> Result<Answer, Failure> {
        let (start, mut others) = (Instant::now(), 0);
        while start.elapsed() < PATIENCE {
            stop.check()?;
            match self.answers.recv_timeout(LOOK) {
                Ok((at, answer)) if answer == number => return Ok(Answer { at, others }),
                Ok(_) => others += 1,
                Err(RecvTimeoutError::Timeout) => check()?,
                Err(RecvTimeoutError::Disconnected) => return Err("the client that asks has ended".into()),
            }
        }
        Err(format!("no connection took the way to server {number} in {PATIENCE:?}").into())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// Asks until told to stop, and tells when a server's answers begin.
fn ask_on(to: SocketAddr, stop: &AtomicBool, tell: &Sender<(Instant, Number)>) {
    let (start, mut last) = (Instant::now(), None);
    while !stop.load(Ordering::Relaxed) {
        let waited = start.elapsed();
        let [shortest, longest] = ANSWERS;
        if let Ok((at, answer)) = ask(to, (waited / 20).clamp(shortest, longest))
            && last.replace(answer) != Some(answer)
            && tell.send((at, answer)).is_err()
        {
            return;
        }
        thread::park_timeout((waited / 100).clamp(PAUSES[0], PAUSES[1]));
    }
}

/// Connects once, and says when the connection stood and who answers.
fn ask(to: SocketAddr, patience: Duration) -> io::Result<(Instant, Number)> {
    let mut stream = TcpStream::connect_timeout(&to, patience)?;
    let at = Instant::now();
    stream.set_read_timeout(Some(ANSWERS[1]))?;
    // Reset, so that no side keeps the connection for a minute.
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    Ok((at, answer[0]))
}
