//! UDP flows that would go on to where the port led before.
//!
//! The kernel looks a port up for the first packet of a flow only, and a flow of UDP lives as long as somebody sends. TCP and
//! SCTP end with their pod, and are left alone.

use super::claim::Claim;
use super::{Error, refused};
use crate::node::Node;
use heddle_netlink::Protocol;
use heddle_netlink::conntrack::{self, Destination, Filter, Flow};
use heddle_netlink::{Socket, address};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Forgets flows to claimed ports that another endpoint answers: a pod that was there before, or nobody.
pub(super) fn forget_others(socket: &mut Socket, node: &mut Node, claims: &[Claim]) -> Result<(), Error> {
    let mut udp = claims.iter().filter(|claim| is_udp(claim)).peekable();
    if udp.peek().is_none() {
        return Ok(());
    }
    let listed = address::list_all(node.socket()).map_err(refused("list the node's addresses"))?;
    let own: BTreeSet<IpAddr> = listed.iter().map(|address| address.address.ip()).collect();
    // Of the loopback network every address is the node's, and one of them listed.
    let is_own = |address: IpAddr| address.is_loopback() || own.contains(&address);
    for claim in udp {
        forget(socket, claim, |flow| {
            is_own(flow.original.destination.ip()) && flow.reply.source != claim.to
        })?;
    }
    Ok(())
}

/// Forgets flows that lead to the pod by these ports.
pub(super) fn forget_own(socket: &mut Socket, claims: &[Claim]) -> Result<(), Error> {
    for claim in claims.iter().filter(|claim| is_udp(claim)) {
        forget(socket, claim, |flow| flow.reply.source == claim.to)?;
    }
    Ok(())
}

fn is_udp(claim: &Claim) -> bool {
    claim.protocol == Protocol::Udp.number()
}

fn forget(socket: &mut Socket, claim: &Claim, wanted: impl Fn(&Flow) -> bool) -> Result<(), Error> {
    let destination = match claim.address {
        Some(address) => Destination::Address(address),
        None if claim.to.is_ipv4() => Destination::AnyV4,
        None => Destination::AnyV6,
    };
    let filter = Filter { destination, protocol: claim.protocol, port: Some(claim.port) };
    let action = refused("forget UDP flows to the port");
    let stale = conntrack::list(socket, &filter, wanted).map_err(&action)?;
    conntrack::forget(socket, &stale).map(drop).map_err(&action)
}
