//! Connections through Services at the socket, while endpoints change all the time.
//!
//! `HEDDLE_SOAK_SECONDS=60` makes it a minute, in place of some seconds. What is judged is that no connection fails, and where connections go in
//! the end; how long a change takes to count is printed.

use heddle_tests::lab::{Lab, Pod};
use heddle_tests::namespace;
use heddle_tests::objects::{service, slice};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::proxy::{Manifests, Proxy};
use rustix::net::sockopt::{Timeout, set_socket_linger, set_socket_timeout};
use std::collections::BTreeSet;
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, LazyLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

type Outcomes = Result<(), Box<dyn Error>>;

const SERVICES: u8 = 16;
const ENDPOINTS: usize = 5;
const CLIENTS: u8 = 4;
const TARGET: u16 = 8080;
/// Of each client: 2 000 connections a second in all.
const PACE: Duration = Duration::from_millis(2);
/// 200 changes a second.
const CHANGES: Duration = Duration::from_millis(5);

fn vip(service: u8) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(10, 96, 0, 10 + service).into(), 80)
}

#[expect(clippy::disallowed_methods, reason = "the one place where a longer run is asked for")]
fn length() -> Duration {
    let asked = std::env::var("HEDDLE_SOAK_SECONDS").ok();
    Duration::from_secs(asked.and_then(|text| text.parse().ok()).unwrap_or(4))
}

/// Clients say when they began to connect, since then.
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What a client says: for which Service, and when it began (nanoseconds, little-endian).
type Said = [u8; 9];

/// A connection that an endpoint took. When it did says nothing of when the client was led there: an endpoint may be busy with another.
#[derive(Clone, Copy)]
struct Taken {
    service: u8,
    endpoint: usize,
    began: Instant,
}

/// An endpoint that is in a Service's list, or not any more.
#[derive(Clone, Copy)]
struct Change {
    service: u8,
    endpoint: usize,
    comes: bool,
    at: Instant,
}

/// Takes connections until it is told to stop.
fn take(listener: &TcpListener, endpoint: usize, stop: &AtomicBool) -> io::Result<Vec<Taken>> {
    let mut all = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let mut said = Said::default();
        // A client that was stopped says nothing.
        if stream.read_exact(&mut said).is_ok() {
            let [service, since @ ..] = said;
            let began = *ORIGIN + Duration::from_nanos(u64::from_le_bytes(since));
            all.push(Taken { service, endpoint, began });
        }
    }
    Ok(all)
}

/// Connects once, and says for which Service.
fn connect(number: u8) -> io::Result<()> {
    let began = u64::try_from(ORIGIN.elapsed().as_nanos()).map_err(io::Error::other)?;
    let mut stream = TcpStream::connect_timeout(&vip(number), PATIENCE)?;
    let mut said = Said::default();
    said[0] = number;
    said[1..].copy_from_slice(&began.to_le_bytes());
    stream.write_all(&said)?;
    // Until the other side has closed: nothing is reset before it is read.
    stream.set_read_timeout(Some(PATIENCE))?;
    let _ = stream.read(&mut [0])?;
    set_socket_linger(&stream, Some(Duration::ZERO))?;
    Ok(())
}

/// Connects to one Service after the other, at a pace. Returns how often, and every failure.
fn client(mut number: u8, stop: &Receiver<()>) -> (usize, Vec<io::Error>) {
    let (mut due, mut count, mut failures) = (Instant::now() + PACE, 0, Vec::new());
    while let Err(RecvTimeoutError::Timeout) =
        stop.recv_timeout(due.saturating_duration_since(Instant::now()))
    {
        number = number.wrapping_mul(5).wrapping_add(3) % SERVICES;
        // The next one is due at its time, however long this one takes.
        due += PACE;
        count += 1;
        failures.extend(connect(number).err());
    }
    (count, failures)
}

/// The endpoints of every Service, as they are wanted.
struct Wanted<'a> {
    manifests: &'a Manifests,
    pods: &'a [Pod],
    lists: Vec<BTreeSet<usize>>,
}

impl Wanted<'_> {
    fn put(&self, service: u8) -> Outcomes {
        let addresses: Vec<IpAddr> = self.lists[usize::from(service)]
            .iter()
            .map(|endpoint| self.pods[*endpoint].addresses()[0])
            .collect();
        let name = format!("s{service}");
        Ok(self
            .manifests
            .put(&format!("{name}-slice.json"), &slice(&name, "node-1", &addresses, TARGET).to_string())?)
    }

    fn make(&self, service: u8) -> Outcomes {
        let object = heddle_tests::objects::service(&format!("s{service}"), &[vip(service).ip()], 80, TARGET);
        self.manifests.put(&format!("s{service}.json"), &object.to_string())?;
        self.put(service)
    }

    /// One endpoint comes or goes; the last one stays.
    fn change(&mut self, serial: u32) -> Result<Option<Change>, Box<dyn Error>> {
        let service = u8::try_from(serial % u32::from(SERVICES))?;
        let endpoint = usize::try_from(serial / u32::from(SERVICES) * 3 + serial)? % ENDPOINTS;
        let list = &mut self.lists[usize::from(service)];
        let comes = list.insert(endpoint);
        if !comes && (list.len() == 1 || !list.remove(&endpoint)) {
            return Ok(None);
        }
        self.put(service)?;
        Ok(Some(Change { service, endpoint, comes, at: Instant::now() }))
    }
}

/// For how long endpoints were still connected to after they had gone.
fn lateness(changes: &[Change], taken: &[Taken]) -> Vec<Duration> {
    let after = |one: &Taken| {
        let is_of_it =
            |c: &&Change| (c.service, c.endpoint) == (one.service, one.endpoint) && c.at <= one.began;
        let last = changes.iter().rfind(is_of_it)?;
        (!last.comes).then(|| one.began - last.at)
    };
    taken.iter().filter_map(after).collect()
}

type Thread<T> = JoinHandle<Result<T, namespace::Error>>;

/// The servers, which take connections until they are told to stop.
struct Servers {
    stop: Arc<AtomicBool>,
    threads: Vec<Thread<io::Result<Vec<Taken>>>>,
}

impl Servers {
    fn start(pods: &[Pod]) -> Result<Self, Box<dyn Error>> {
        let (stop, mut threads) = (Arc::new(AtomicBool::new(false)), Vec::new());
        for (endpoint, pod) in pods.iter().enumerate() {
            let listener = pod.namespace().enter(|| TcpListener::bind(("0.0.0.0", TARGET)))??;
            set_socket_timeout(&listener, Timeout::Recv, Some(Duration::from_millis(100)))?;
            let stop = stop.clone();
            threads.push(pod.namespace().spawn(move || take(&listener, endpoint, &stop))?);
        }
        Ok(Self { stop, threads })
    }

    fn stop(self) -> Result<Vec<Taken>, Box<dyn Error>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for thread in self.threads {
            all.extend(thread.join().map_err(|_| "a server's thread failed")???);
        }
        Ok(all)
    }
}

/// How many connections a client made, and every failure.
type Made = (usize, Vec<io::Error>);

/// The clients, until they are told to stop.
struct Clients {
    threads: Vec<(Sender<()>, Thread<Made>)>,
}

impl Clients {
    fn start(from: &Pod) -> Result<Self, Box<dyn Error>> {
        let mut threads = Vec::new();
        for first in 0..CLIENTS {
            let (tell, told) = channel();
            threads.push((tell, from.namespace().spawn(move || client(first, &told))?));
        }
        Ok(Self { threads })
    }

    fn stop(self) -> Result<Made, Box<dyn Error>> {
        let (mut count, mut failures) = (0, Vec::new());
        for (tell, thread) in self.threads {
            drop(tell);
            let (made, failed) = thread.join().map_err(|_| "a client's thread failed")??;
            count += made;
            failures.extend(failed);
        }
        Ok((count, failures))
    }
}

/// Changes endpoints at their pace until the time is over.
fn change(wanted: &mut Wanted<'_>) -> Result<Vec<Change>, Box<dyn Error>> {
    let (_never, tick) = channel::<()>();
    let (start, mut changes) = (Instant::now(), Vec::new());
    for serial in 0.. {
        // The next one is due at its time, however long this one took.
        let due = start + CHANGES * serial;
        let _ = tick.recv_timeout(due.saturating_duration_since(Instant::now()));
        if start.elapsed() > length() {
            break;
        }
        changes.extend(wanted.change(serial)?);
    }
    Ok(changes)
}

/// ebpf:6.1: its last measure, that nobody finds no endpoint while lists change.
#[test]
fn no_connection_fails_while_endpoints_change_and_all_go_to_those_that_are_left() -> Outcomes {
    let lab = Lab::with_sockets(&["node-1"])?;
    let node = lab.node("node-1")?;
    let from = node.pod("client")?;
    let pods: Vec<Pod> = (0..ENDPOINTS).map(|i| node.pod(&format!("web-{i}"))).collect::<Result<_, _>>()?;
    let manifests = Manifests::of(node)?;
    let lists = vec![BTreeSet::from([0, 1, 2]); SERVICES.into()];
    let mut wanted = Wanted { manifests: &manifests, pods: &pods, lists };
    (0..SERVICES).try_for_each(|number| wanted.make(number))?;
    let proxy = Proxy::start(node, &manifests)?;
    proxy.ready(node)?;
    proxy.serves_sockets()?;
    let servers = Servers::start(&pods)?;
    let clients = Clients::start(&from)?;
    let changes = change(&mut wanted)?;
    let (count, failures) = clients.stop()?;
    assert!(failures.is_empty(), "{} of {count} connections failed, first {:?}", failures.len(), failures[0]);
    // What the last changes left is what everybody gets.
    settled(&wanted, &from)?;
    let before = Instant::now();
    (0..40).try_for_each(|i| {
        from.namespace().enter(|| connect(i % SERVICES))?.map_err(Box::<dyn Error>::from)
    })?;
    let taken = servers.stop()?;
    let wrong =
        |one: &&Taken| one.began > before && !wanted.lists[usize::from(one.service)].contains(&one.endpoint);
    assert_eq!(taken.iter().filter(wrong).count(), 0, "connections to endpoints that are gone");
    tell(count, &changes, lateness(&changes, &taken));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a figure for who runs it")]
fn tell(count: usize, changes: &[Change], mut late: Vec<Duration>) {
    late.sort();
    let worst = late.last().copied().unwrap_or_default();
    let over = late.iter().filter(|late| **late > Duration::from_millis(10)).count();
    println!(
        "{count} connections and {} changes in {:?}: {} connections began after an object was written and went to an endpoint that it \
         does not have, the latest {worst:?} after, {over} more than 10 ms after",
        changes.len(),
        length(),
        late.len()
    );
}

/// Waits until a change that was made after all others counts.
fn settled(wanted: &Wanted<'_>, from: &Pod) -> Outcomes {
    let last = SERVICES;
    let object = service(&format!("s{last}"), &[vip(last).ip()], 80, TARGET);
    wanted.manifests.put(&format!("s{last}.json"), &object.to_string())?;
    let slice = slice(&format!("s{last}"), "node-1", &wanted.pods[0].addresses()[..1], TARGET);
    wanted.manifests.put(&format!("s{last}-slice.json"), &slice.to_string())?;
    eventually("the last change", PATIENCE, || {
        let once = || TcpStream::connect_timeout(&vip(last), Duration::from_millis(200));
        from.namespace().enter(once).map_err(|e| e.to_string())?.map(drop).map_err(|e| e.to_string())
    })?;
    Ok(())
}
