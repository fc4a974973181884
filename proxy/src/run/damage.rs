//! The thread that hears of outside damage, and of others' rules.

use crate::agent::Event;
use crate::nft::ruleset::TABLE;
use heddle_netlink::nft::{Heard, Listener};
use std::sync::mpsc::Sender;
use tracing::{debug, warn};

/// Tells the agent of every change to our tables or to others that the listener hears.
pub(super) fn listen(mut listener: Listener, events: &Sender<Event>) {
    loop {
        let (ours, others) = match listener.hear() {
            Ok(Heard::Changed(tables)) => {
                let is_ours = |(family, name): &(Option<_>, String)| family.is_some() && name == TABLE;
                (tables.iter().any(is_ours), !tables.iter().all(is_ours))
            }
            Ok(Heard::Lost) => {
                debug!("nftables notifications were lost; the table is compared");
                (true, true)
            }
            Err(error) => {
                warn!("outside changes are not heard any more: {error}");
                return;
            }
        };
        let told = [(ours, Event::Doubt), (others, Event::OthersChanged)];
        if told.into_iter().any(|(is_so, event)| is_so && events.send(event).is_err()) {
            return;
        }
    }
}

/// Tells the agent that something may have changed which nobody heard.
pub(super) fn doubt(events: &Sender<Event>) -> impl Fn() + Send + 'static {
    let events = events.clone();
    // One who is gone needs to be told nothing.
    move || [Event::Doubt, Event::OthersChanged].into_iter().for_each(|event| _ = events.send(event))
}
