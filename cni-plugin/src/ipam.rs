//! Who may hold which address: the words in which leases are asked for and given, as values.
//!
//! It holds no lease (that is [`store`](crate::store)) and knows no pods, only owners. Invariant: two owners of one
//! network are different values.

use crate::names;
use crate::ranges::RangeSet;
use crate::spec::Attachment;
use ipnetwork::IpNetwork;
use rustix::time::{ClockId, clock_gettime};
use std::net::IpAddr;
use std::time::Duration;

/// Who holds addresses inside one network: a container's interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// The container's id; a very long one as [`names::short`] makes it.
    pub container: String,
    /// The interface's name in the container.
    pub ifname: String,
}

impl Owner {
    /// The part of an attachment that tells owners of one network apart.
    pub fn of(attachment: &Attachment) -> Self {
        Self::new(&attachment.container, &attachment.ifname)
    }

    /// The interface of a container.
    pub fn new(container: &str, ifname: &str) -> Self {
        Self { container: names::short(container), ifname: ifname.to_owned() }
    }
}

/// Why an owner gets no address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// All addresses are held.
    #[error("no address left in range set {set} ({held} held)")]
    Exhausted {
        /// The ranges.
        set: RangeSet,
        /// How many of its addresses are held.
        held: u128,
    },
    /// The address that was asked for has an owner.
    #[error("address {address} is held by container {container}")]
    Taken {
        /// What was asked for.
        address: IpAddr,
        /// Who holds it.
        container: String,
    },
    /// The address that was asked for is in no range, or reserved, or a second one of the same range set.
    #[error("address {address} was asked for, but no range set can give it")]
    NotOurs {
        /// What was asked for.
        address: IpAddr,
    },
}

/// An address with what the pod needs beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The address with the length of its subnet's prefix.
    pub address: IpNetwork,
    /// The subnet's gateway.
    pub gateway: IpAddr,
}

/// What an owner asks for.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// One address comes from each.
    pub sets: &'a [RangeSet],
    /// Addresses that it must get, where a set contains them.
    pub wanted: &'a [IpAddr],
    /// How long an address rests after its last owner, as long as there are others.
    pub cooldown: Duration,
    /// Addresses that must not be given although nobody holds them here: the kernel knows who uses them.
    pub avoid: &'a [IpAddr],
}

/// What an owner got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// One address for each range set, in their order.
    pub addresses: Vec<Assigned>,
    /// False when the owner held them already.
    pub fresh: bool,
}

/// An owner with what it holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held {
    /// Who.
    pub owner: Owner,
    /// What, in the order of the range sets.
    pub addresses: Vec<IpAddr>,
    /// Another program gave them, and made the links: that ours is missing says nothing of the pod.
    pub foreign: bool,
}

/// How full a range set is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Addresses that the set can hand out in all.
    pub capacity: u128,
    /// Those of them that have an owner.
    pub held: u128,
}

impl Room {
    /// Addresses that an ADD can get.
    pub fn free(&self) -> u128 {
        self.capacity.saturating_sub(self.held)
    }
}

/// An address as a number.
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

/// A moment, in milliseconds since the machine began to boot, sleep included: whatever is done to the wall clock, it
/// goes on at its pace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uptime(pub u64);

impl Uptime {
    /// The present moment.
    pub fn now() -> Self {
        let since_boot = clock_gettime(ClockId::Boottime);
        let (seconds, nanoseconds) = (since_boot.tv_sec, since_boot.tv_nsec);
        Self(u64::try_from(seconds * 1000 + nanoseconds / 1_000_000).unwrap_or_default())
    }

    /// True when this much has passed since then; nothing has since a moment that is yet to come.
    pub fn has_passed(self, since: Self, duration: Duration) -> bool {
        u128::from(self.0.saturating_sub(since.0)) >= duration.as_millis()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// cni:6.2 (clock jump vs cooldown): the wall clock has no part in it, and no moment makes the time run backwards.
    #[test]
    fn a_cooldown_counts_the_time_since_the_boot() {
        let half_a_minute = Duration::from_secs(30);
        assert!(!Uptime(129_999).has_passed(Uptime(100_000), half_a_minute));
        assert!(Uptime(130_000).has_passed(Uptime(100_000), half_a_minute));
        assert!(!Uptime(99_999).has_passed(Uptime(100_000), half_a_minute));
        assert!(Uptime(0).has_passed(Uptime(0), Duration::ZERO));
        let text = std::fs::read_to_string("/proc/uptime").unwrap();
        let seconds: u64 = text.split('.').next().unwrap().parse().unwrap();
        assert!(Uptime::now().0 / 1000 >= seconds);
    }
}
