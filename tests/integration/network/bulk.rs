//! Much at once, through a Service.

use crate::Outcomes;
use crate::stage::{Stage, Web, comes_to_answer, like};
use heddle_tests::lab::Pod;
use heddle_tests::patience::PATIENCE;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

/// So much that windows open, and that a packet too large for a link on the way is sent many times over.
const BULK: usize = 16 << 20;
const PORT: u16 = 8081;
/// No piece of it looks like the next.
const PATTERN: usize = 65_521;

pub(crate) fn arrives_whole(stage: &mut Stage) -> Outcomes {
    let web = Web { target: PORT, ..stage.web(("bulk", 14), &[("node-3", "pod-3")])? };
    stage.serve(&web, |_| ())?;
    let _echo = Echo::start(stage.pod("pod-3")?)?;
    let near = stage.web(("near", 15), &[("node-3", "pod-3")])?;
    stage.serve(&near, |_| ())?;
    let (pod, node) = (stage.pod("pod-1")?.namespace(), stage.node("node-1")?);
    for (ip, last) in web.addresses.iter().zip(&near.addresses) {
        // The Service that was made last answers: then both are known.
        comes_to_answer(pod, SocketAddr::new(*last, 80), |outcome| outcome.endpoint().is_some())?;
        // A node without the family has no way to the Service's address.
        let node = like(&node.addresses(), ip).map(|_| node.namespace());
        for client in std::iter::once(pod).chain(node) {
            client.enter(|| transfer(SocketAddr::new(*ip, 80)))??;
        }
    }
    Ok(())
}

/// A server that sends everything back.
struct Echo {
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    fn start(pod: &Pod) -> Result<Self, Box<dyn Error>> {
        let listener = pod.namespace().enter(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)))??;
        let accepting = listener.try_clone()?;
        let serve = move || {
            // One client after the other; what becomes of it is the client's affair.
            while let Ok((stream, _)) = accepting.accept() {
                let _ = echo(&stream);
            }
        };
        Ok(Self { listener, thread: Some(thread::spawn(serve)) })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn echo(stream: &TcpStream) -> io::Result<()> {
    io::copy(&mut &*stream, &mut &*stream)?;
    stream.shutdown(Shutdown::Write)
}

/// Sends all of it while it comes back, and compares.
fn transfer(to: SocketAddr) -> io::Result<()> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let pattern: Vec<u8> = (0..PATTERN).map(|place| (place * place / 7).to_le_bytes()[0]).collect();
    thread::scope(|scope| {
        let sent = scope.spawn(|| send(&stream, &pattern));
        let (mut got, mut whole) = (vec![0; PATTERN], 0);
        let mut reader = &stream;
        while whole < BULK {
            let piece = &mut got[..PATTERN.min(BULK - whole)];
            reader.read_exact(piece)?;
            assert!(piece == &pattern[..piece.len()], "other bytes came back after {whole}");
            whole += piece.len();
        }
        assert_eq!(reader.read(&mut got)?, 0, "more came back than was sent");
        sent.join().expect("it does not panic")
    })
}

fn send(mut stream: &TcpStream, pattern: &[u8]) -> io::Result<()> {
    let mut left = BULK;
    while left > 0 {
        let piece = &pattern[..left.min(pattern.len())];
        stream.write_all(piece)?;
        left -= piece.len();
    }
    stream.shutdown(Shutdown::Write)
}
