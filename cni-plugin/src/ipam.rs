//! Who holds which address: ranges and leases, as values.
//!
//! It is not the file (that is [`store`](crate::store)) and knows no pods, only owners. Invariant: an address has at
//! most one owner, and an owner's addresses are granted and released together.

use crate::ranges::RangeSet;
use crate::spec::Attachment;
use ipnetwork::IpNetwork;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

/// Who holds addresses inside one network: a container's interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// The container's id.
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
        Self { container: container.to_owned(), ifname: ifname.to_owned() }
    }
}

/// One change to the leases; the file is a list of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// From now on this owner holds exactly these addresses, one for each range set and in their order.
    Grant {
        /// Who.
        owner: Owner,
        /// What.
        addresses: Vec<IpAddr>,
    },
    /// The owner holds nothing any more.
    Release {
        /// Who.
        owner: Owner,
    },
    /// Where the search for a free address goes on, for each range set; it survives the grant that it comes from.
    Latest {
        /// The addresses that were granted last.
        addresses: Vec<IpAddr>,
    },
}

/// Why an owner gets no address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// All addresses are held.
    #[error("no address left in range set {set} ({held} held)")]
    Exhausted {
        /// The ranges.
        set: RangeSet,
        /// How many addresses are held in the whole network.
        held: usize,
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

/// What [`Leases::choose`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// One address for each range set, in their order.
    pub addresses: Vec<Assigned>,
    /// What must be recorded before the addresses are used; nothing when the owner holds them already.
    pub record: Option<Record>,
}

/// All leases of one network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    owners: BTreeMap<Rc<Owner>, Vec<IpAddr>>,
    holders: BTreeMap<IpAddr, Rc<Owner>>,
    latest: Vec<IpAddr>,
}

impl Leases {
    /// Takes a change in.
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::Grant { owner, addresses } => {
                self.release(&owner);
                let owner = Rc::new(owner);
                self.holders.extend(addresses.iter().map(|address| (*address, Rc::clone(&owner))));
                self.latest.clone_from(&addresses);
                self.owners.insert(owner, addresses);
            }
            Record::Release { owner } => self.release(&owner),
            Record::Latest { addresses } => self.latest = addresses,
        }
    }

    fn release(&mut self, owner: &Owner) {
        for address in self.owners.remove(owner).unwrap_or_default() {
            self.holders.remove(&address);
        }
    }

    /// The shortest list of changes that gives these leases from nothing.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        let grants = self.owners.iter().map(|(owner, addresses)| Record::Grant {
            owner: Owner::clone(owner),
            addresses: addresses.clone(),
        });
        let latest = Some(self.latest.clone()).filter(|addresses| !addresses.is_empty());
        grants.chain(latest.map(|addresses| Record::Latest { addresses }))
    }

    /// What an owner holds, in the order of the range sets.
    pub fn held_by(&self, owner: &Owner) -> Option<&[IpAddr]> {
        self.owners.get(owner).map(Vec::as_slice)
    }

    /// All owners with what they hold.
    pub fn holders(&self) -> impl Iterator<Item = Held> {
        self.owners
            .iter()
            .map(|(owner, addresses)| Held { owner: Owner::clone(owner), addresses: addresses.clone() })
    }

    /// How full a set is.
    pub fn room(&self, set: &RangeSet) -> Room {
        let held = self.holders.keys().filter(|address| set.assign(**address).is_some()).count();
        Room { capacity: set.capacity(), held: held as u128 }
    }

    /// Number of owners.
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// True when nobody holds an address.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Finds one address in each range set: one of `wanted` where the set contains it, else the next free one after the
    /// address that was granted last, so that an address rests as long as possible before it is used again.
    ///
    /// An owner that holds addresses already is one whose earlier attempt was killed: it gets the same ones.
    ///
    /// # Errors
    /// When a set is exhausted or a wanted address cannot be given. Then nothing is to be recorded.
    pub fn choose(&self, owner: &Owner, sets: &[RangeSet], wanted: &[IpAddr]) -> Result<Chosen, Error> {
        let misfit = |w: &&IpAddr| !sets.iter().any(|set| set.assign(**w).is_some());
        if let Some(address) = wanted.iter().find(misfit) {
            return Err(Error::NotOurs { address: *address });
        }
        if let Some(addresses) = self.keep(owner, sets, wanted) {
            return Ok(Chosen { addresses, record: None });
        }
        let addresses = self.choose_anew(owner, sets, wanted)?;
        let granted = addresses.iter().map(|a| a.address.ip()).collect();
        Ok(Chosen { addresses, record: Some(Record::Grant { owner: owner.clone(), addresses: granted }) })
    }

    /// What the owner holds, if the present sets would give the same.
    fn keep(&self, owner: &Owner, sets: &[RangeSet], wanted: &[IpAddr]) -> Option<Vec<Assigned>> {
        let held = self.held_by(owner)?;
        if held.len() != sets.len() || !wanted.iter().all(|w| held.contains(w)) {
            return None;
        }
        sets.iter().zip(held).map(|(set, address)| set.assign(*address)).collect()
    }

    fn choose_anew(
        &self,
        owner: &Owner,
        sets: &[RangeSet],
        wanted: &[IpAddr],
    ) -> Result<Vec<Assigned>, Error> {
        let mut chosen: Vec<Assigned> = Vec::with_capacity(sets.len());
        for (i, set) in sets.iter().enumerate() {
            let mut asked = wanted.iter().filter_map(|w| set.assign(*w));
            let assigned = match (asked.next(), asked.next()) {
                (Some(_), Some(second)) => return Err(Error::NotOurs { address: second.address.ip() }),
                (Some(asked), None) => self.check_free(asked, owner)?,
                (None, _) => self.next_free(set, self.latest.get(i).copied(), owner)?,
            };
            chosen.push(assigned);
        }
        Ok(chosen)
    }

    fn check_free(&self, asked: Assigned, owner: &Owner) -> Result<Assigned, Error> {
        let address = asked.address.ip();
        match self.holders.get(&address) {
            Some(holder) if **holder != *owner => {
                Err(Error::Taken { address, container: holder.container.clone() })
            }
            _ => Ok(asked),
        }
    }

    /// The search ends after as many steps as there are addresses held, and three reserved ones for each range.
    fn next_free(&self, set: &RangeSet, after: Option<IpAddr>, owner: &Owner) -> Result<Assigned, Error> {
        let free = |a: &Assigned| self.holders.get(&a.address.ip()).is_none_or(|holder| **holder == *owner);
        let exhausted = || Error::Exhausted { set: set.clone(), held: self.holders.len() };
        set.addresses_after(after).find(free).ok_or_else(exhausted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranges::Written;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn sets(subnets: &[&str]) -> Vec<RangeSet> {
        let written =
            |subnet: &&str| vec![Written { subnet: Some((*subnet).to_owned()), ..Written::default() }];
        RangeSet::read_all(&subnets.iter().map(written).collect::<Vec<_>>()).unwrap()
    }

    fn owner(container: &str) -> Owner {
        Owner { container: container.to_owned(), ifname: "eth0".to_owned() }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Chooses and takes the choice in.
    fn grant(
        leases: &mut Leases,
        container: &str,
        sets: &[RangeSet],
        wanted: &[IpAddr],
    ) -> Result<Vec<IpAddr>, Error> {
        let chosen = leases.choose(&owner(container), sets, wanted)?;
        chosen.record.into_iter().for_each(|record| leases.apply(record));
        Ok(chosen.addresses.iter().map(|a| a.address.ip()).collect())
    }

    fn release(leases: &mut Leases, container: &str) {
        leases.apply(Record::Release { owner: owner(container) });
    }

    #[test]
    fn an_address_that_was_given_back_rests_until_the_others_were_used() {
        let (mut leases, sets) = (Leases::default(), sets(&["10.0.0.0/29"]));
        for container in ["a", "b"] {
            grant(&mut leases, container, &sets, &[]).unwrap();
            release(&mut leases, container);
        }
        let next: Vec<_> =
            ["c", "d", "e", "f"].map(|c| grant(&mut leases, c, &sets, &[]).unwrap()[0]).to_vec();
        assert_eq!(next, ["10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.2"].map(ip));
    }

    #[test]
    fn both_families_come_in_one_grant_or_not_at_all() {
        let (mut leases, sets) = (Leases::default(), sets(&["fd00::/64", "10.0.0.0/30"]));
        assert_eq!(grant(&mut leases, "a", &sets, &[]).unwrap(), [ip("fd00::2"), ip("10.0.0.2")]);
        let before = leases.clone();
        let error = grant(&mut leases, "b", &sets, &[]).unwrap_err();
        assert_eq!(error.to_string(), "no address left in range set 10.0.0.1-10.0.0.2 (2 held)");
        assert_eq!(leases, before, "the IPv6 address was not kept");
    }

    #[test]
    fn a_retried_attempt_gets_the_addresses_of_the_killed_one() {
        let (mut leases, sets) = (Leases::default(), sets(&["10.0.0.0/24"]));
        let first = grant(&mut leases, "a", &sets, &[]).unwrap();
        let again = leases.choose(&owner("a"), &sets, &[]).unwrap();
        assert_eq!((again.addresses[0].address.ip(), again.record), (first[0], None));
    }

    #[test]
    fn a_retried_attempt_in_other_ranges_moves_and_leaks_nothing() {
        let mut leases = Leases::default();
        grant(&mut leases, "a", &sets(&["10.0.0.0/24"]), &[]).unwrap();
        assert_eq!(grant(&mut leases, "a", &sets(&["10.1.0.0/24"]), &[]).unwrap(), [ip("10.1.0.2")]);
        assert_eq!(leases.holders.len(), 1);
    }

    #[test]
    fn wanted_addresses_are_given_or_refused_with_the_reason() {
        let (mut leases, sets) = (Leases::default(), sets(&["10.0.0.0/24", "fd00::/64"]));
        let given = grant(&mut leases, "a", &sets, &[ip("fd00::9")]).unwrap();
        assert_eq!(given, [ip("10.0.0.2"), ip("fd00::9")]);
        let taken = Error::Taken { address: ip("fd00::9"), container: "a".to_owned() };
        assert_eq!(grant(&mut leases, "b", &sets, &[ip("fd00::9")]), Err(taken));
        for wrong in ["10.0.0.1", "10.0.0.255", "10.0.1.7"].map(ip) {
            assert_eq!(grant(&mut leases, "b", &sets, &[wrong]), Err(Error::NotOurs { address: wrong }));
        }
        let two = [ip("10.0.0.8"), ip("10.0.0.9")];
        assert_eq!(grant(&mut leases, "b", &sets, &two), Err(Error::NotOurs { address: two[1] }));
    }

    proptest! {
        #[test]
        fn an_address_never_has_two_owners(steps in proptest::collection::vec((0u8..12, any::<bool>()), 0..80)) {
            let (mut leases, sets) = (Leases::default(), sets(&["10.0.0.0/29", "fd00::/125"]));
            for (who, arrives) in steps {
                let container = format!("c{who}");
                if arrives {
                    let free = leases.len() < 5 || leases.held_by(&owner(&container)).is_some();
                    prop_assert_eq!(grant(&mut leases, &container, &sets, &[]).is_ok(), free);
                } else {
                    release(&mut leases, &container);
                }
                let held: Vec<_> = leases.owners.values().flatten().copied().collect();
                prop_assert_eq!(held.iter().collect::<BTreeSet<_>>().len(), held.len());
                prop_assert_eq!(held.len(), leases.holders.len());
                let mut copy = Leases::default();
                leases.records().for_each(|record| copy.apply(record));
                prop_assert_eq!(&copy, &leases);
            }
        }
    }
}
