//! What was counted at sockets: the sum, and who has the most of it.
//!
//! People are shown the busiest, programs all that a connection was ever asked of.

use crate::door::shown::table;
use crate::ebpf::tally::{Asked, Sums};
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::fmt::{self, Write};
use std::net::SocketAddr;

/// How many Services, and how many endpoints, people are shown.
const SHOWN: usize = 10;
const OF_SERVICES: [&str; 5] = ["SERVICE", "FAMILY", "CONNECTIONS", "REFUSED", "AFFINITY HITS"];
const OF_ENDPOINTS: [&str; 2] = ["ENDPOINT", "CONNECTIONS"];

/// A line of sums, and below it a table of Services and one of endpoints, the busiest first.
pub(super) fn write(f: &mut impl Write, sums: &Sums) -> fmt::Result {
    let [connections, refused, hits] = [0, 1, 2].map(|of| sums.ports.values().map(|counts| counts[of]).sum());
    let (connections, refused, hits): (u64, u64, u64) = (connections, refused, hits);
    writeln!(f, "counted    {connections} connections, {refused} refused, {hits} affinity hits")?;
    let mut services: Vec<(&Asked, &[u64; 3])> = asked(sums).collect();
    services.sort_by_key(|(_, [connections, refused, _])| Reverse(connections + refused));
    let service = |(asked, counts): &(&Asked, &[u64; 3])| {
        let [connections, refused, hits] = counts.map(|count| count.to_string());
        [asked.to_string(), asked.family.name().to_owned(), connections, refused, hits]
    };
    first(f, OF_SERVICES, services.iter().map(service))?;
    let mut endpoints: Vec<_> = sums.endpoints.iter().collect();
    endpoints.sort_by_key(|(_, connections)| Reverse(**connections));
    first(f, OF_ENDPOINTS, endpoints.iter().map(|(at, count)| [at.to_string(), count.to_string()]))
}

/// The ports that somebody asked for, by name.
fn asked(sums: &Sums) -> impl Iterator<Item = (&Asked, &[u64; 3])> {
    sums.ports.iter().filter(|(_, [connections, refused, _])| connections + refused > 0)
}

/// The first rows, if there are any, and how many more there are.
fn first<const N: usize>(
    f: &mut impl Write,
    head: [&str; N],
    rows: impl ExactSizeIterator<Item = [String; N]>,
) -> fmt::Result {
    let more = rows.len().saturating_sub(SHOWN);
    let rows: Vec<_> = rows.take(SHOWN).collect();
    if !rows.is_empty() {
        table(f, head, &rows)?;
    }
    if more > 0 { writeln!(f, "  ... and {more} more: -o json has them") } else { Ok(()) }
}

/// All of them, in the order of their names.
pub(super) fn json(sums: &Sums) -> Value {
    let service = |(asked, [connections, refused, hits]): (&Asked, &[u64; 3])| {
        json!({
            "namespace": &*asked.service.namespace,
            "service": &*asked.service.name,
            "family": asked.family.name(),
            "port": asked.port,
            "protocol": asked.protocol.to_string(),
            "connections": connections,
            "refused": refused,
            "affinityHits": hits,
        })
    };
    let endpoint = |(at, connections): (&SocketAddr, &u64)| json!({"address": at.ip().to_string(), "port": at.port(), "connections": connections});
    json!({
        "services": asked(sums).map(service).collect::<Vec<_>>(),
        "endpoints": sums.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    })
}
