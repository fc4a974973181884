//! Commits while packets are on their way: the real nft dataplane, at full speed, in one namespace.
//!
//! The order of transactions that this proves is read off in `proxy/tests/pipeline.rs`; here it is the kernel that says
//! whether it is needed and enough (docs/decisions/commits-between-lookups.md).

use heddle_proxy::agent::{Agent, Event};
use heddle_proxy::model::{
    Change, Kind, ObjectName, Protocol, Service, ServicePort, Slice, SliceEndpoint, SlicePort, Triggered,
};
use heddle_proxy::nft::{Netlink, Nft, Settings};
use heddle_tests::namespace::Namespace;
use heddle_tests::patience::PATIENCE;
use heddle_tests::wire::Wire;
use std::error::Error;
use std::io::ErrorKind;
use std::iter;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

type Outcomes = Result<(), Box<dyn Error + Send + Sync>>;

const FRONTEND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), 80);
const ENDPOINTS: [IpAddr; 3] = [endpoint(1), endpoint(2), endpoint(3)];
const TARGET: u16 = 8080;
/// Without the order some fifteen of so many are lost, on two busy processors.
const PACKETS: u32 = 100_000;

const fn endpoint(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

fn service() -> Change {
    let port =
        ServicePort { name: "".into(), protocol: Protocol::Udp, port: FRONTEND.port(), node_port: None };
    let service = Service { cluster_ips: [FRONTEND.ip()].into(), ports: vec![port], ..Service::default() };
    Change::ServiceApplied(ObjectName::new("default", "web"), service.into())
}

fn slice(endpoints: &[IpAddr]) -> Change {
    let endpoint = |address: &IpAddr| SliceEndpoint {
        address: *address,
        ready: true,
        serving: true,
        terminating: false,
        hints: None,
        node: None,
    };
    let port = SlicePort { name: "".into(), protocol: Protocol::Udp, port: TARGET };
    let slice = Slice {
        service: "web".into(),
        ports: vec![port],
        endpoints: endpoints.iter().map(endpoint).collect(),
        trigger: Triggered::default(),
    };
    Change::SliceApplied(ObjectName::new("default", "web"), slice.into())
}

/// A host that has the frontend's address too, so that it hears what is not sent on to an endpoint.
fn host() -> Result<Namespace, Box<dyn Error + Send + Sync>> {
    let host = Namespace::new("host")?;
    host.enter(|| {
        let mut wire = Wire::open()?;
        wire.up("lo")?;
        iter::once(FRONTEND.ip()).chain(ENDPOINTS).try_for_each(|address| wire.address("lo", address.into()))
    })??;
    // Each packet begins a flow; all of them at once would fill the kernel's table.
    host.sysctl("netfilter/nf_conntrack_udp_timeout", "1")?;
    Ok(host)
}

/// One endpoint less, one more, and so on until it is told to stop. Says when the first are there, and returns the number of
/// changes.
fn change_until(stopped: &Receiver<()>, ready: &Sender<()>) -> Result<u32, heddle_netlink::Error> {
    let mut agent = Agent::new("node-1", Nft::new(Netlink::open()?, &Settings::default()));
    let complete = [Change::Complete(Kind::Service), Change::Complete(Kind::Slice)];
    complete.into_iter().chain([service()]).for_each(|change| agent.take(Event::Change(change)));
    let mut changes = 0;
    while stopped.try_recv() == Err(TryRecvError::Empty) {
        let fewer = if changes % 2 == 0 { 0 } else { 1 };
        agent.take(Event::Change(slice(&ENDPOINTS[fewer..])));
        assert_eq!(agent.sync(), None);
        changes += 1;
        // Nobody listens after the first time.
        let _ = ready.send(());
    }
    Ok(changes)
}

/// Sends packets to the frontend, each as a flow of its own: from another address. Returns how many of them no endpoint
/// got.
fn send(packets: u32) -> std::io::Result<usize> {
    let endpoints: Result<Vec<_>, _> =
        ENDPOINTS.iter().map(|address| UdpSocket::bind((*address, TARGET))).collect();
    let (_endpoints, unserved) = (endpoints?, UdpSocket::bind(FRONTEND)?);
    unserved.set_nonblocking(true)?;
    let mut lost = 0;
    for source in (1..=packets).map(|number| Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + number)) {
        UdpSocket::bind((source, 0))?.send_to(b"?", FRONTEND)?;
        match unserved.recv(&mut [0]) {
            Ok(_) => lost += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(lost)
}

#[test]
fn no_connection_begins_without_an_endpoint_while_their_number_goes_up_and_down() -> Outcomes {
    let host = host()?;
    let ((stop, stopped), (tell, ready)) = (channel(), channel());
    let changing = host.spawn(move || change_until(&stopped, &tell))?;
    ready.recv_timeout(PATIENCE)?;
    drop(ready);
    let lost = host.enter(|| send(PACKETS))??;
    stop.send(())?;
    let changes = changing.join().map_err(|_| "the changes ended early")???;
    assert!(changes > 100, "{changes} changes");
    assert_eq!(lost, 0, "of {PACKETS} packets, during {changes} changes");
    Ok(())
}
