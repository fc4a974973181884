//! How much a pod may send and receive: a token bucket at each end of its pair.
//!
//! What the node's end sends is what the pod receives, and what the pod's end sends is what it sends. Both go with the
//! pair, so nothing is to be found again (docs/decisions/bandwidth.md).

use crate::apply::{Error, Kernel, refused};
use crate::config::runtime::Bandwidth;
use heddle_netlink::link::{self, Link, LinkIndex, Which};
use heddle_netlink::qdisc::{self, TokenBucket};
use heddle_netlink::{Batch, Socket};

/// How long a byte waits at most, in milliseconds; what would wait longer is dropped. The reference plugin's figure.
const PATIENCE: u64 = 25;
/// How much of a second's bytes may go at once when nobody said, in milliseconds.
const USUAL_BURST: u64 = 100;
/// The smallest usual burst, in bytes: what TCP hands to a link as one.
const SMALLEST_USUAL_BURST: u64 = 64 * 1024;
/// Runtimes write the largest number, in bits, when a pod has a rate and no burst: containerd this one, CRI-O eight times
/// as much. Taken by its word, half a gigabyte would pass before the rate counts.
const UNSAID: u64 = u32::MAX as u64;
/// What a frame has beside its packet: an Ethernet header with a VLAN tag.
const FRAME: u32 = 18;

/// The bucket for these bits a second and bits at once, on a link with this MTU; none without a limit.
pub fn bucket((rate, burst): (u64, u64), mtu: u32) -> Option<TokenBucket> {
    let bytes = (rate / 8).max(1);
    let burst = if burst >= UNSAID {
        (bytes.saturating_mul(USUAL_BURST) / 1000).max(SMALLEST_USUAL_BURST)
    } else {
        // A burst below one packet would let none pass.
        (burst / 8).max(u64::from(mtu.saturating_add(FRAME)))
    };
    let limit = burst.saturating_add(bytes.saturating_mul(PATIENCE) / 1000);
    let clamp = |bytes| u32::try_from(bytes).unwrap_or(u32::MAX);
    (rate != 0).then(|| TokenBucket { rate: bytes, burst: clamp(burst), limit: clamp(limit) })
}

/// An end of the pair and its limit.
struct Side {
    link: Link,
    wanted: Option<TokenBucket>,
}

impl Kernel {
    /// Limits what the pod sends and receives.
    ///
    /// # Errors
    /// When an end is missing, or what the kernel refused; then there is no limit.
    pub fn limit(&mut self, limits: &Bandwidth) -> Result<(), Error> {
        let (pod, node) = self.sides(limits)?;
        set(self.pod(), &pod)?;
        set(self.node().socket(), &node)
    }

    /// What is not as it was limited.
    ///
    /// # Errors
    /// When an end is missing, or the kernel refuses to say.
    pub fn find_unlimited(&mut self, limits: &Bandwidth) -> Result<Vec<String>, Error> {
        let (pod, node) = self.sides(limits)?;
        let sent = difference(self.pod(), &pod, "sends")?;
        let received = difference(self.node().socket(), &node, "receives")?;
        Ok(sent.into_iter().chain(received).collect())
    }

    fn sides(&mut self, limits: &Bandwidth) -> Result<(Side, Side), Error> {
        let gone = |name: &str| Error::Gone { name: name.to_owned() };
        let pod = self.find_pod_link()?.ok_or_else(|| gone("of the pod"))?;
        let node =
            self.find_node_end(&pod)?.ok_or_else(|| gone("at the node's end of the pod's interface"))?;
        let sent = bucket((limits.egress_rate, limits.egress_burst), pod.mtu);
        let received = bucket((limits.ingress_rate, limits.ingress_burst), node.mtu);
        Ok((Side { link: pod, wanted: sent }, Side { link: node, wanted: received }))
    }

    /// The other end of the pod's pair, whoever made it. It is proved by what it says of its own other end: the number alone
    /// could be that of any link.
    fn find_node_end(&mut self, pod: &Link) -> Result<Option<Link>, Error> {
        let Some(LinkIndex(index)) = pod.peer else { return Ok(None) };
        let found = link::fetch(self.node().socket(), Which::Index(LinkIndex(index)));
        let found = found.map_err(refused("find the node's end of the pod's interface".to_owned()))?;
        Ok(found.filter(|end| end.kind.as_deref() == Some("veth") && end.peer == Some(pod.index)))
    }
}

fn set(socket: &mut Socket, side: &Side) -> Result<(), Error> {
    let Some(bucket) = side.wanted else { return Ok(()) };
    let mut batch = Batch::new();
    bucket.set(&mut batch, side.link.index);
    socket.request(&mut batch).map_err(refused(format!("limit what interface {} sends", side.link.name)))
}

/// The burst is not compared: the kernel rounds it. The limit has it in.
fn difference(socket: &mut Socket, side: &Side, what: &str) -> Result<Option<String>, Error> {
    let Some(wanted) = side.wanted else { return Ok(None) };
    let has = qdisc::fetch(socket, side.link.index);
    let has = has.map_err(refused(format!("read the limit of interface {}", side.link.name)))?;
    let same = has.is_some_and(|has| (has.rate, has.limit) == (wanted.rate, wanted.limit));
    Ok((!same).then(|| format!("what the pod {what} is not limited to {} bytes a second", wanted.rate)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_in_bytes_and_a_byte_waits_25_milliseconds() {
        let bucket = bucket((8_000_000, 800_000), 1500).unwrap();
        assert_eq!(bucket, TokenBucket { rate: 1_000_000, burst: 100_000, limit: 125_000 });
    }

    #[test]
    fn without_a_rate_there_is_no_limit() {
        assert_eq!(bucket((0, 0), 1500), None);
        assert_eq!(bucket((1, 1), 1500).unwrap().rate, 1);
    }

    /// cni:1.6: the bursts of containerd and CRI-O for a pod that only has a rate.
    #[test]
    fn a_burst_that_nobody_asked_for_is_a_tenth_of_a_second() {
        for unsaid in [u64::from(u32::MAX), u64::from(u32::MAX) * 8 - 1] {
            assert_eq!(bucket((80_000_000, unsaid), 1500).unwrap().burst, 1_000_000);
            assert_eq!(bucket((8_000, unsaid), 1500).unwrap().burst, 65_536);
        }
    }

    #[test]
    fn a_burst_lets_a_packet_pass_and_no_number_is_too_large() {
        assert_eq!(bucket((8_000, 8), 1500).unwrap().burst, 1518);
        let most = bucket((u64::MAX, u64::MAX), 1500).unwrap();
        assert_eq!((most.burst, most.limit), (u32::MAX, u32::MAX));
    }
}
