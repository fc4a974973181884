//! The thread that hears of outside damage.

use crate::agent::Event;
use crate::nft::ruleset::TABLE;
use heddle_netlink::nft::{Heard, Listener};
use std::sync::mpsc::Sender;
use tracing::{debug, warn};

/// Tells the agent of every change that somebody else makes to our tables.
pub(super) fn listen(mut listener: Listener, own_port: u32, events: &Sender<Event>) {
    loop {
        let doubt = match listener.next(own_port) {
            Ok(Heard::Changed(tables)) => tables.iter().any(|(_, name)| name == TABLE),
            Ok(Heard::Lost) => {
                debug!("nftables notifications were lost; the table is compared");
                true
            }
            Err(error) => {
                warn!("outside changes are not heard any more: {error}");
                return;
            }
        };
        if doubt && events.send(Event::Doubt).is_err() {
            return;
        }
    }
}
