//! The addresses that the node's links have, followed.

use crate::health::listeners::LinkAddress;
use heddle_netlink::address::Follower;
use std::collections::BTreeSet;
use tokio::sync::mpsc::UnboundedSender;
use tracing::warn;

/// Tells of them now and whenever they are different. It blocks, and ends when nobody listens any more.
pub(super) fn follow(mut follower: Follower, to: &UnboundedSender<BTreeSet<LinkAddress>>) {
    let mut told = None;
    loop {
        match follower.list() {
            Ok(addresses) => {
                let now: BTreeSet<LinkAddress> =
                    addresses.iter().map(|found| (found.address.ip(), found.link.0)).collect();
                if told.as_ref() != Some(&now) {
                    told = Some(now.clone());
                    if to.send(now).is_err() {
                        return;
                    }
                }
            }
            Err(error) => warn!("the node's addresses cannot be listed: {error}"),
        }
        if let Err(error) = follower.wait() {
            warn!("changes of the node's addresses are not heard any more: {error}");
            return;
        }
    }
}
