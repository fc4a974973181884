//! Ten thousand connections, and all that may happen to a node.
//!
//! Both of their ends are more files than a process may have open, so each endpoint is a thread with a table of files of its own. Invariant: such
//! a thread owns no file of before, and ends before anything that its namespace needs.

use super::told::fill;
use super::{CROWD, Outcomes, Stage, Start, said_again};
use heddle_tests::cgroup::Cgroup;
use heddle_tests::lab::Pod;
use heddle_tests::namespace::{self, Namespace};
use heddle_tests::patience::PATIENCE;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::error::Error;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

const ESTABLISHED: usize = 10_000;
/// The port of its endpoints.
pub(crate) const PORT: u16 = 9001;
/// How often an endpoint looks whether it is told to stop.
const BREATH: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

type Thread = JoinHandle<Result<io::Result<()>, namespace::Error>>;

/// Endpoints that give back what they hear.
struct Endpoints {
    stop: Arc<AtomicBool>,
    threads: Vec<Thread>,
}

/// Connections through a Service.
struct Crowd {
    connections: Vec<TcpStream>,
    _endpoints: Endpoints,
}

impl Endpoints {
    fn start(pods: &[Pod]) -> Result<Self, Box<dyn Error>> {
        let stop = Arc::new(AtomicBool::new(false));
        let (hears, hearing) = channel();
        let start = |pod: &Pod| {
            let (stop, hears) = (Arc::clone(&stop), hears.clone());
            pod.namespace().spawn(move || echo(&stop, &hears))
        };
        let started = Self { threads: pods.iter().map(start).collect::<Result<_, _>>()?, stop };
        drop(hears);
        for pod in pods {
            hearing.recv().map_err(|_| format!("{} does not take connections", pod.name()))?;
        }
        Ok(started)
    }
}

impl Drop for Endpoints {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(matches!(ended, Ok(Ok(Ok(())))), "an endpoint: {ended:?}");
        }
    }
}

/// Leaves all files to the other threads.
fn with_own_files() -> io::Result<()> {
    #[expect(unsafe_code, reason = "there is no safe name for it")]
    // SAFETY: this thread owns no file yet, and none that others own is closed for them.
    let done =
        unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_UNSHARE) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes connections, which it tells once it does, and gives back what they say, until it is told to stop.
fn echo(stop: &AtomicBool, hears: &Sender<()>) -> io::Result<()> {
    with_own_files()?;
    let listener = TcpListener::bind(("0.0.0.0", PORT))?;
    let _ = hears.send(());
    let mut connections: Vec<TcpStream> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let mut asked = vec![PollFd::new(&listener, PollFlags::IN)];
        asked.extend(connections.iter().map(|one| PollFd::new(one, PollFlags::IN)));
        poll(&mut asked, Some(&BREATH))?;
        let spoke: Vec<bool> = asked.iter().map(|one| !one.revents().is_empty()).collect();
        for (connection, _) in connections.iter_mut().zip(&spoke[1..]).filter(|(_, spoke)| **spoke) {
            let mut heard = [0; 4];
            // Who went says nothing.
            if connection.read_exact(&mut heard).is_ok() {
                connection.write_all(&heard)?;
            }
        }
        if spoke[0] {
            connections.push(listener.accept()?.0);
        }
    }
    Ok(())
}

impl Crowd {
    fn connect(from: &Namespace, pods: &[Pod]) -> Result<Self, Box<dyn Error>> {
        let endpoints = Endpoints::start(pods)?;
        let connect = || (0..ESTABLISHED).map(|_| TcpStream::connect_timeout(&CROWD, PATIENCE)).collect();
        let connections: io::Result<Vec<_>> = from.enter(connect)?;
        let crowd = Self { connections: connections?, _endpoints: endpoints };
        crowd.connections.iter().try_for_each(|one| one.set_read_timeout(Some(PATIENCE)))?;
        Ok(crowd)
    }

    /// All of them are answered.
    fn goes_on(&mut self) -> Outcomes {
        self.connections.iter_mut().try_for_each(|one| one.write_all(b"word"))?;
        for one in &mut self.connections {
            let mut heard = [0; 4];
            one.read_exact(&mut heard)?;
            assert_eq!(&heard, b"word");
        }
        Ok(())
    }

    /// Whoever asks for their peer is told the Service.
    fn shows_services(&self) -> Outcomes {
        let peers: Result<Vec<SocketAddr>, _> = self.connections.iter().map(TcpStream::peer_addr).collect();
        assert_eq!(peers?.into_iter().filter(|peer| *peer != CROWD).count(), 0);
        Ok(())
    }
}

/// ebpf:6.8: a proxy that is killed, programs that somebody removes, another version's maps, full ones, other cgroups, and the other mode.
#[test]
fn ten_thousand_connections_live_through_all_that_may_happen_to_a_node() -> Outcomes {
    let mut stage = Stage::new()?;
    let mut crowd = Crowd::connect(stage.client.namespace(), &stage.webs)?;
    let here = stage.start.clone();
    crowd.goes_on()?;

    stage.restart(&here)?;
    stage.proxy.serves_sockets()?;
    crowd.goes_on()?;
    crowd.shows_services()?;

    fs::remove_file(stage.pins().join("connect4"))?;
    said_again(&stage.proxy, "Services are served at sockets")?;
    crowd.goes_on()?;
    fill(&mut stage.remembered("tcp")?)?;
    fill(&mut stage.remembered("udp")?)?;
    crowd.goes_on()?;
    crowd.shows_services()?;

    let elsewhere = Arc::new(Cgroup::new()?);
    for start in [&here.clone().moved(&elsewhere), &here] {
        stage.restart(start)?;
        stage.proxy.serves_sockets()?;
        crowd.goes_on()?;
    }

    stage.become_an_old_version()?;
    stage.restart(&here)?;
    stage.proxy.serves_sockets()?;
    crowd.goes_on()?;

    stage.restart(&Start { mode: "nftables", ..here.clone() })?;
    stage.lets_sockets_go()?;
    crowd.goes_on()?;
    stage.restart(&here)?;
    stage.proxy.serves_sockets()?;
    crowd.goes_on()
}
