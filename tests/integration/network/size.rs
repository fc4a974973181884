//! The largest packets that pass between pods, whole.

use crate::Outcomes;
use crate::stage::{Stage, TARGET};
use heddle_tests::namespace::Namespace;
use heddle_tests::patience::{PATIENCE, eventually};
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// How long one datagram is waited for.
const BRIEFLY: Duration = Duration::from_millis(200);
/// Headers of IPv4 and UDP, and of IPv6 and UDP.
const HEADERS: [u32; 2] = [28, 48];

/// Nothing may cut them in pieces (DF), so a pod learns what fits from the answers of the nodes.
pub(crate) fn whole_packets(stage: &mut Stage) -> Outcomes {
    let pods: Vec<_> = (1..=3).map(|number| (format!("node-{number}"), format!("pod-{number}"))).collect();
    for (from_node, from) in &pods {
        for (to_node, to) in pods.iter().filter(|(_, to)| to != from) {
            for address in stage.pod(to)?.addresses() {
                let wanted = stage.network.mtu([from_node, to_node], *address);
                let pod = stage.pod(from)?.namespace();
                let found = path_mtu(pod, SocketAddr::new(*address, TARGET))?;
                assert_eq!(found, wanted, "{from} -> {to} ({address})");
            }
        }
    }
    Ok(())
}

/// The size of the largest packet that is answered, and for which the kernel knows of no larger one.
fn path_mtu(from: &Namespace, to: SocketAddr) -> Result<u32, Box<dyn std::error::Error>> {
    let socket = from.enter(|| open(to))??;
    let headers = HEADERS[usize::from(to.is_ipv6())];
    let mut size = 0;
    eventually(&format!("a whole packet of {} to {to}", from.name()), PATIENCE, || {
        size = known(&socket, to).map_err(|error| error.to_string())?;
        let datagram = vec![0; (size - headers) as usize];
        let answered = socket.send(&datagram).and_then(|_| socket.recv(&mut [0; 64]));
        answered.map(drop).map_err(|error| format!("{size} bytes: {error}"))
    })?;
    Ok(size)
}

fn open(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(BRIEFLY))?;
    socket.connect(to)?;
    if to.is_ipv4() {
        sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DO)?;
    } else {
        sockopt::set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::DO)?;
    }
    Ok(socket)
}

fn known(socket: &UdpSocket, to: SocketAddr) -> io::Result<u32> {
    Ok(if to.is_ipv4() { sockopt::ip_mtu(socket)? } else { sockopt::ipv6_mtu(socket)? })
}
