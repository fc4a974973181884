//! What may be changed about any link that exists, whatever made it.

use crate::link::{IFF_PROMISC, IFLA_ADDRESS, IFLA_MTU, LinkIndex, Mac, RTM_NEWLINK, header};
use crate::message::{ACK, Batch};

const IFLA_TXQLEN: u16 = 13;
const IFF_ALLMULTI: u32 = 0x200;

/// Changes; what is `None` stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    /// Its Ethernet address.
    pub mac: Option<Mac>,
    /// Largest packet in bytes.
    pub mtu: Option<u32>,
    /// Packets that wait to be sent, at most.
    pub queue: Option<u32>,
    /// It takes packets that are addressed to others.
    pub promiscuous: Option<bool>,
    /// It takes packets for all multicast groups.
    pub all_multicast: Option<bool>,
}

impl Tuning {
    /// Asks for all changes in one message.
    pub fn apply(self, batch: &mut Batch, link: LinkIndex) -> u32 {
        let wanted = [(IFF_PROMISC, self.promiscuous), (IFF_ALLMULTI, self.all_multicast)];
        let bits = |on: bool| {
            let chosen = wanted.iter().filter(|(_, value)| value.is_some_and(|value| value || !on));
            chosen.fold(0, |bits, (bit, _)| bits | bit)
        };
        let (flags, change) = (bits(true), bits(false));
        let LinkIndex(index) = link;
        batch.push(RTM_NEWLINK, ACK, &header(index, flags, change), |w| {
            if let Some(mac) = self.mac {
                w.put(IFLA_ADDRESS, &mac.0);
            }
            let numbers = [(IFLA_MTU, self.mtu), (IFLA_TXQLEN, self.queue)];
            numbers
                .iter()
                .filter_map(|(kind, value)| Some((*kind, (*value)?)))
                .for_each(|(k, v)| w.put_u32(k, v));
        })
    }
}
