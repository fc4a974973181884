//! Rules of policy routing: which packets ask which routing table.
//!
//! Only those that choose by where a packet comes from. Invariant: what is read back is equal to what was written, and a
//! rule that says anything else is not read at all, so that none of others' is mistaken for ours.
//! Numbers are those of `linux/fib_rules.h`.

use crate::address::{INET, INET6, family, put_ip, read_ip};
use crate::message::{ACK, Attributes, Batch, CREATE, DUMP, EXCL, Reply};
use crate::socket::{Error, Socket};
use ipnetwork::IpNetwork;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_GETRULE: u16 = 34;
const FRA_SRC: u16 = 2;
const FRA_PRIORITY: u16 = 6;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_PROTOCOL: u16 = 21;
/// `FR_ACT_TO_TBL`: ask a table.
const TO_TABLE: u8 = 1;
const FIB_RULE_HDR: usize = 12;

/// Packets from here ask this table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// Where they come from.
    pub from: IpNetwork,
    /// The routing table.
    pub table: u32,
    /// Its place among the rules of its family: lower ones are asked first. The kernel's own are 0, 32766 and 32767.
    pub priority: u32,
    /// Who made it (`FRA_PROTOCOL`, Linux 4.17), as [`Route::protocol`](crate::route::Route::protocol) says it.
    pub protocol: u8,
}

impl Rule {
    /// Asks for the rule; it fails with `EEXIST` when it is there.
    pub fn add(&self, batch: &mut Batch) -> u32 {
        self.push(batch, RTM_NEWRULE, CREATE | EXCL)
    }

    /// Asks for its removal; it fails with `ENOENT` when there is none. The kernel takes the first rule that says all this:
    /// one of the same priority that says more, too.
    pub fn delete(&self, batch: &mut Batch) -> u32 {
        self.push(batch, RTM_DELRULE, 0)
    }

    fn push(&self, batch: &mut Batch, kind: u16, flags: u16) -> u32 {
        // The header has eight bits for the table; `FRA_TABLE` is what counts.
        let table = u8::try_from(self.table).unwrap_or(0);
        let (from, length) = (self.from.network(), self.from.prefix());
        let header = [family(from), 0, length, 0, table, 0, 0, TO_TABLE, 0, 0, 0, 0];
        batch.push(kind, flags | ACK, &header, |w| {
            if length > 0 {
                put_ip(w, FRA_SRC, from);
            }
            w.put_u32(FRA_TABLE, self.table);
            w.put_u32(FRA_PRIORITY, self.priority);
            w.put_u8(FRA_PROTOCOL, self.protocol);
        })
    }

    /// Reads an `RTM_NEWRULE` message; `None` when it is something else, or a rule that says more or other things.
    pub fn read(reply: Reply<'_>) -> Option<Self> {
        let [family, to, length, service, table, _, _, action, flags @ ..]: [u8; FIB_RULE_HDR] =
            *reply.body.first_chunk()?;
        let attributes = reply.attributes(FIB_RULE_HDR);
        let plain = to == 0 && service == 0 && action == TO_TABLE && flags == [0; 4];
        if reply.kind != RTM_NEWRULE || !plain || says_more(attributes) {
            return None;
        }
        let anywhere: IpAddr = match family {
            INET => Ipv4Addr::UNSPECIFIED.into(),
            INET6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => return None,
        };
        let from = attributes.get(FRA_SRC).map_or(Some(anywhere), read_ip)?;
        let [protocol] = attributes.get(FRA_PROTOCOL)?.try_into().ok()?;
        Some(Self {
            from: IpNetwork::new(from, length).ok()?,
            table: attributes.get_u32(FRA_TABLE).unwrap_or(u32::from(table)),
            priority: attributes.get_u32(FRA_PRIORITY).unwrap_or(0),
            protocol,
        })
    }
}

fn says_more(attributes: Attributes<'_>) -> bool {
    { attributes }.any(|(kind, value)| match kind {
        FRA_SRC | FRA_PRIORITY | FRA_TABLE | FRA_PROTOCOL => false,
        // The kernel says of each rule that it holds back no routes: -1.
        FRA_SUPPRESS_PREFIXLEN => value != [0xff; 4],
        _ => true,
    })
}

/// Lists the rules of both families that say no more than a [`Rule`] does, in the order in which the kernel asks them.
///
/// # Errors
/// As [`Socket::dump`].
pub fn list(socket: &mut Socket) -> Result<Vec<Rule>, Error> {
    let mut batch = Batch::new();
    batch.push(RTM_GETRULE, DUMP, &[0; FIB_RULE_HDR], |_| ());
    socket.dump(&mut batch, |found: &mut Vec<Rule>, reply| found.extend(Rule::read(reply)))
}
