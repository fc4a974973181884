//! Queueing disciplines: the token bucket (`tbf`) at the root of a link, which limits what the link sends.
//!
//! It holds no policy: rate, burst and queue are the caller's. A discipline goes with its link.
//!
//! Numbers are those of `linux/rtnetlink.h` and `linux/pkt_sched.h`.

use crate::link::LinkIndex;
use crate::message::{ACK, Batch, CREATE, REPLACE, Reply};
use crate::socket::{Error, Socket};
use rustix::io::Errno;

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_GETQDISC: u16 = 38;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
const TC_H_ROOT: u32 = 0xffff_ffff;
/// `1:0`, which is what `tc` users write.
const HANDLE: u32 = 1 << 16;
/// `TC_LINKLAYER_ETHERNET`: the kernel computes what a packet costs, and wants no table of it.
const ETHERNET: u8 = 1;
/// `NLM_F_ECHO`: without it the kernel tells the discipline to everybody who listens, but not to who asked.
const ECHO: u16 = 0x8;
const TCMSG: usize = 20;
/// `struct tc_tbf_qopt`: two rates of 12 bytes, limit, buffer, mtu.
const PARMS: usize = 36;
const TBF: &str = "tbf";

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    /// Bytes a second.
    pub rate: u64,
    /// Bytes that may be sent at once. Smaller than a packet, it lets none pass.
    pub burst: u32,
    /// Bytes that may wait; more are dropped.
    pub limit: u32,
}

fn header(LinkIndex(link): LinkIndex, handle: u32) -> [u8; TCMSG] {
    let mut bytes = [0; TCMSG];
    bytes[4..8].copy_from_slice(&link.to_ne_bytes());
    bytes[8..12].copy_from_slice(&handle.to_ne_bytes());
    bytes[12..16].copy_from_slice(&TC_H_ROOT.to_ne_bytes());
    bytes
}

impl TokenBucket {
    /// Asks for the bucket, in the place of what is at the link's root.
    pub fn set(&self, batch: &mut Batch, link: LinkIndex) -> u32 {
        batch.push(RTM_NEWQDISC, CREATE | REPLACE | ACK, &header(link, HANDLE), |w| {
            w.put_str(TCA_KIND, TBF);
            w.nest(TCA_OPTIONS, |w| {
                w.put(TCA_TBF_PARMS, &self.parms());
                w.put_u32(TCA_TBF_BURST, self.burst);
                if u32::try_from(self.rate).is_err() {
                    w.put(TCA_TBF_RATE64, &self.rate.to_ne_bytes());
                }
            });
        })
    }

    fn parms(&self) -> [u8; PARMS] {
        let mut parms = [0; PARMS];
        parms[1] = ETHERNET;
        parms[8..12].copy_from_slice(&u32::try_from(self.rate).unwrap_or(u32::MAX).to_ne_bytes());
        parms[24..28].copy_from_slice(&self.limit.to_ne_bytes());
        parms
    }

    /// Reads an `RTM_NEWQDISC` message; `None` when it is something else, or another discipline.
    fn read(reply: Reply<'_>) -> Option<Self> {
        let attributes = reply.attributes(TCMSG);
        if reply.kind != RTM_NEWQDISC || attributes.get_str(TCA_KIND) != Some(TBF) {
            return None;
        }
        let options = attributes.get_nest(TCA_OPTIONS)?;
        let parms = options.get(TCA_TBF_PARMS)?;
        let number = |at: usize| Some(u32::from_ne_bytes(parms.get(at..at + 4)?.try_into().ok()?));
        let wide = options.get(TCA_TBF_RATE64).and_then(|rate| rate.try_into().ok()).map(u64::from_ne_bytes);
        let rate = wide.or(number(8).map(u64::from))?;
        // The kernel tells how long the burst takes, in units of 64 ns (`PSCHED_SHIFT`).
        let burst = u128::from(number(28)?) * 64 * u128::from(rate) / 1_000_000_000;
        Some(Self { rate, burst: u32::try_from(burst).unwrap_or(u32::MAX), limit: number(24)? })
    }
}

/// Removes what is at the link's root; the kernel's default takes its place.
pub fn delete(batch: &mut Batch, link: LinkIndex) -> u32 {
    batch.push(RTM_DELQDISC, ACK, &header(link, 0), |_| ())
}

/// The bucket at a link's root; `None` when there is none. Its burst is what the kernel rounded it to: 64 ns' worth less at
/// most.
///
/// # Errors
/// When the kernel refuses for another reason than that there is none.
pub fn fetch(socket: &mut Socket, link: LinkIndex) -> Result<Option<TokenBucket>, Error> {
    let mut batch = Batch::new();
    batch.push(RTM_GETQDISC, ACK | ECHO, &header(link, 0), |_| ());
    let mut found = None;
    match socket.transact(&mut batch, |reply| found = TokenBucket::read(reply).or(found)) {
        Ok(()) => Ok(found),
        Err(e) if e.errno() == Some(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}
