//! What is asked of each subject, and the figures that come of it.

use crate::Failure;
use crate::cluster::{PORT, Size};
use crate::figure::Better;
use crate::load::server::Server;
use crate::load::{bulk, connections, packets, requests};
use crate::stats::permille;
use clap::ValueEnum;
use heddle_tests::namespace::Namespace;
use std::net::SocketAddr;

/// Flows of the workloads with many.
const FLOWS: u32 = 16;

/// A way from a client to a server.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// Who asks.
    pub client: &'a Namespace,
    /// Who asks from outside the cluster.
    pub outside: &'a Namespace,
    /// Who answers.
    pub server: &'a Server,
    /// The address of the one Service, or of the server itself.
    pub hot: SocketAddr,
    /// The same from outside.
    pub node_port: SocketAddr,
    /// The Services, where there are some.
    pub size: Option<Size>,
}

impl Way<'_> {
    /// The address of some Service: always the same one for the same number.
    fn any(&self, number: u32) -> SocketAddr {
        let some = |size: Size| SocketAddr::new(size.cluster_ip(scattered(number) % size.services), PORT);
        self.size.map_or(self.hot, some)
    }
}

/// Mixes the bits of a number (the finisher of MurmurHash3), so that neighbours lie far apart.
fn scattered(number: u32) -> u32 {
    let mixed = (number ^ (number >> 16)).wrapping_mul(0x85eb_ca6b);
    let mixed = (mixed ^ (mixed >> 13)).wrapping_mul(0xc2b2_ae35);
    mixed ^ (mixed >> 16)
}

/// How much of it in one round.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Connections.
    pub connections: u32,
    /// Requests; a thousand or more, where the last of a thousand is to mean something.
    pub requests: u32,
    /// Bytes over TCP, of which an eighth goes in datagrams too.
    pub bytes: u64,
    /// Packets.
    pub packets: u32,
    /// Calls of `connect`, which are a hundred times as cheap as connections.
    pub calls: u32,
}

impl Effort {
    /// Enough before anything counts.
    pub fn warm_up(&self) -> Self {
        self.part(4)
    }

    /// One of so many parts.
    #[must_use]
    pub fn part(&self, of: u32) -> Self {
        let some = |count: u32| count.div_ceil(of);
        let Self { connections, requests, bytes, packets, calls } = *self;
        Self {
            connections: some(connections),
            requests: some(requests),
            bytes: bytes.div_ceil(of.into()),
            packets: some(packets),
            calls: some(calls),
        }
    }

    /// The seconds that all workloads together may take.
    pub fn seconds(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a guess needs no 53 bits")]
        let bytes = self.bytes as f64;
        f64::from(self.connections) * 4.5e-4
            + f64::from(self.requests) * 6e-5
            + bytes * 3.5e-9
            + f64::from(self.packets) * 3e-5
            + f64::from(self.calls) * 2e-6
    }
}

/// Something that is asked of each subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Workload {
    /// New TCP connections to one Service.
    Connections,
    /// New TCP connections, each to some Service.
    AnyConnections,
    /// New TCP connections from outside to a port of the node.
    NodePort,
    /// Requests and answers over one TCP connection.
    TcpRequests,
    /// Requests and answers in datagrams.
    UdpRequests,
    /// Many bytes over one TCP connection.
    TcpBulk,
    /// Many bytes over several TCP connections.
    TcpFlows,
    /// Many bytes in datagrams of one flow.
    UdpBulk,
    /// Many bytes in datagrams of several flows.
    UdpFlows,
    /// Small datagrams, each of a flow of its own.
    NewPackets,
    /// Small datagrams of one flow.
    Packets,
    /// The call of `connect` alone.
    ConnectCall,
}

/// What a figure is called, its unit, and whether more of it is better.
pub type Kind = (&'static str, &'static str, Better);

const CPU: &str = "µs of CPU";
const WALL: &str = "µs";
const RATE: &str = "Gbit a s of CPU";
const PACKETS: &str = "packets a s of CPU";

impl Workload {
    /// The figures that each round gives, in order.
    pub fn kinds(self) -> &'static [Kind] {
        use Better::{Less, More};
        match self {
            Self::Connections => &[
                (names::CONNECTIONS, CPU, Less),
                ("first packet, one Service: p50", WALL, Less),
                ("first packet, one Service: p90", WALL, Less),
                ("first packet, one Service: p99", WALL, Less),
            ],
            Self::AnyConnections => &[
                ("new connections, any Service", CPU, Less),
                ("first packet, any Service: p50", WALL, Less),
                ("first packet, any Service: p90", WALL, Less),
                ("first packet, any Service: p99", WALL, Less),
            ],
            Self::NodePort => &[
                ("new connections, node port from outside", CPU, Less),
                ("first packet, node port from outside: p50", WALL, Less),
                ("first packet, node port from outside: p90", WALL, Less),
                ("first packet, node port from outside: p99", WALL, Less),
            ],
            Self::TcpRequests => &[
                ("TCP request and answer", CPU, Less),
                ("TCP request and answer: p50", WALL, Less),
                ("TCP request and answer: p90", WALL, Less),
                ("TCP request and answer: p99", WALL, Less),
                ("TCP request and answer: p99.9", WALL, Less),
            ],
            Self::UdpRequests => &[
                (names::UDP, CPU, Less),
                ("UDP request and answer: p50", WALL, Less),
                ("UDP request and answer: p90", WALL, Less),
                ("UDP request and answer: p99", WALL, Less),
                ("UDP request and answer: p99.9", WALL, Less),
            ],
            Self::TcpBulk => &[(names::BULK, RATE, More)],
            Self::TcpFlows => &[("bulk TCP, 16 flows", RATE, More)],
            Self::UdpBulk => &[("bulk UDP, one flow", RATE, More)],
            Self::UdpFlows => &[("bulk UDP, 16 flows", RATE, More)],
            Self::NewPackets => &[("packets of new flows", PACKETS, More)],
            Self::Packets => &[("packets of one flow", PACKETS, More)],
            Self::ConnectCall => &[(names::CALL, CPU, Less)],
        }
    }

    /// Whether it is new connections to another address than the usual one, which is no other to a host without Services.
    pub fn is_variant(self) -> bool {
        matches!(self, Self::AnyConnections | Self::NodePort)
    }

    /// One round of it on one way: a value for each of [`kinds`](Self::kinds).
    ///
    /// # Errors
    /// When an answer is missing.
    pub fn run(self, way: &Way<'_>, effort: &Effort, round: u32) -> Result<Vec<f64>, Failure> {
        let Way { client, server, hot, .. } = *way;
        let (listener, hearer) = (&server.listener, &server.hearer);
        let some = |number: u32| way.any(round.wrapping_mul(effort.connections).wrapping_add(number));
        let connect = |from, to: &(dyn Fn(u32) -> SocketAddr + Sync)| {
            connections::connections(from, listener, effort.connections, to)
        };
        let of = |flows| (flows, effort.bytes);
        // A byte in a datagram costs ten times as much.
        let in_datagrams = |flows| (flows, effort.bytes / 8);
        Ok(match self {
            Self::Connections => of_connections(&connect(client, &|_| hot)?),
            Self::AnyConnections => of_connections(&connect(client, &some)?),
            Self::NodePort => of_connections(&connect(way.outside, &|_| way.node_port)?),
            Self::TcpRequests => of_requests(&requests::tcp(client, listener, hot, effort.requests)?),
            Self::UdpRequests => of_requests(&requests::udp(client, hearer, hot, effort.requests)?),
            Self::TcpBulk => vec![bulk::tcp(client, listener, hot, of(1))?],
            Self::TcpFlows => vec![bulk::tcp(client, listener, hot, of(FLOWS))?],
            Self::UdpBulk => vec![bulk::udp(client, hearer, hot, in_datagrams(1))?],
            Self::UdpFlows => vec![bulk::udp(client, hearer, hot, in_datagrams(FLOWS))?],
            Self::NewPackets => vec![packets::new(client, hearer, hot, effort.packets)?],
            Self::Packets => vec![packets::established(client, hearer, hot, effort.packets)?],
            Self::ConnectCall => vec![connections::calls(client, hot, effort.calls)?],
        })
    }
}

/// Names of figures that claims are about.
pub mod names {
    /// What a new connection costs.
    pub const CONNECTIONS: &str = "new connections, one Service";
    /// What a datagram and its answer cost.
    pub const UDP: &str = "UDP request and answer";
    /// What a second of CPU carries over one connection.
    pub const BULK: &str = "bulk TCP, one flow";
    /// What the call of `connect` costs.
    pub const CALL: &str = "call of connect";
}

fn of_connections(found: &connections::Connections) -> Vec<f64> {
    [found.cpu].into_iter().chain(shares(&found.first, &[500, 900, 990])).collect()
}

fn of_requests(found: &requests::Requests) -> Vec<f64> {
    [found.cpu].into_iter().chain(shares(&found.latencies, &[500, 900, 990, 999])).collect()
}

fn shares(values: &[f64], shares: &[usize]) -> Vec<f64> {
    shares.iter().map(|share| permille(values, *share).unwrap_or(f64::NAN)).collect()
}
