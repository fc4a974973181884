//! Services at sockets, connected: the dataplane, and the thread that tries out whether it has an effect.

use super::{KernelError, RunError};
use crate::agent::Event;
use crate::causes;
use crate::config::Config;
use crate::conntrack::{Changes, Forgetter};
use crate::dataplane::Dataplane;
use crate::ebpf::bound::Bound;
use crate::ebpf::door::Proof;
use crate::ebpf::namespaces::Namespaces;
use crate::ebpf::passing;
use crate::ebpf::pins::{BPF_FS, Pins};
use crate::ebpf::{Ebpf, KernelDoor, Sockets, State};
use crate::model::Protocol;
use crate::nft::{Kernel, Nft};
use crate::process::spawn;
use heddle_netlink::address::Follower;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use tracing::{debug, info, warn};

/// How often it is tried out.
const PERIOD: Duration = Duration::from_secs(2);

/// The dataplane that the configuration names, over the one for packets.
pub(super) fn over<K: Kernel + Send + 'static>(
    packets: Nft<K>,
    config: &Config,
    (events, report): (&Sender<Event>, &Sockets),
) -> Result<Box<dyn Dataplane + Send>, RunError> {
    if !config.serves_sockets {
        return Ok(Box::new(packets));
    }
    let proof = Proof::new(config.places.clone());
    let door = KernelDoor::new(proof.clone());
    let (told, again) = (report.clone(), events.clone());
    spawn("sockets", move || watch(&proof, &told, &again))?;
    let again = events.clone();
    spawn("node addresses", move || follow_addresses(&again))?;
    Ok(Box::new(Ebpf::new(packets, door, &config.settings, report.clone())))
}

/// Starts the threads that close connected sockets whose endpoint is gone, where sockets are served: one for UDP, and one for TCP where
/// that is wanted. Returns where they hear of that.
pub(super) fn close_stale(config: &Config) -> Result<Vec<(Protocol, Sender<Changes>)>, RunError> {
    let wanted = [
        (Protocol::Udp, "stale sockets", config.serves_sockets),
        (Protocol::Tcp, "stale TCP", config.closes_stale_tcp()),
    ];
    let mut all = Vec::new();
    for (protocol, thread, _) in wanted.into_iter().filter(|(_, _, is_wanted)| *is_wanted) {
        let namespaces = Namespaces::of(config.places.namespaces());
        let bound = Bound::open(protocol, pins(config), namespaces).map_err(KernelError::Open)?;
        let mut forgetter = Forgetter::new(bound, protocol, &config.settings);
        let (told, changes) = channel();
        spawn(thread, move || forgetter.run(&changes))?;
        all.push((protocol, told));
    }
    Ok(all)
}

/// Looks whether sockets are served, as long as they are said to be.
fn watch(proof: &Proof, told: &Sockets, again: &Sender<Event>) {
    loop {
        if told.wait(PERIOD).state != State::Serving {
            continue;
        }
        let proven = proof.check();
        told.probe(proven.is_ok());
        if let Err(unable) = proven {
            debug!("sockets: {}", causes::line(&unable));
            if again.send(Event::LookAgain).is_err() {
                return;
            }
        }
    }
}

/// Node ports are served on addresses that come later, too.
fn follow_addresses(again: &Sender<Event>) {
    let follow = || -> Result<(), heddle_netlink::Error> {
        let mut follower = Follower::open()?;
        loop {
            follower.wait()?;
            if again.send(Event::AddressesChanged).is_err() {
                return Ok(());
            }
        }
    };
    if let Err(error) = follow() {
        warn!("changes of the node's addresses are not heard any more: {error}");
    }
}

/// Where programs have their names.
pub(super) fn pins(config: &Config) -> Pins {
    Pins::in_file_system(config.places.pins.as_deref().unwrap_or(Path::new(BPF_FS)))
}

/// Whether an earlier process served sockets, or let bridges pass frames because it did, and this one is not to.
pub(super) fn is_to_let_go(config: &Config) -> bool {
    !config.serves_sockets && (pins(config).is_here() || passing::are_some().unwrap_or(false))
}

/// Lets them go, now that packets are served.
pub(super) fn let_go(config: &Config) {
    if let Err(error) = passing::take_back() {
        warn!("let bridges hand pods' frames to the tables again: {error}");
    }
    match pins(config).remove() {
        Ok(false) => {}
        Ok(true) => info!("sockets are not served any more, packets are; connections go on"),
        Err(error) => warn!("remove the programs that serve sockets: {error}"),
    }
}
