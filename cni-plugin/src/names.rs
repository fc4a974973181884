//! Names and Ethernet addresses that follow from the attachment alone.
//!
//! DEL may come with another configuration than ADD, or without its result: it must find the host's end of the pair
//! from what it surely has. Invariant: the functions here never change what they give for the same input, since a newer
//! program must find what an older one made.

use crate::spec::Attachment;
use heddle_netlink::link::{self, Mac};
use std::net::IpAddr;

/// The further name of the host's end for each address of the pod: `network:address`. The kernel gives a name to one link
/// only, so that whatever becomes of the lease table, no address is given to two pods (docs/decisions/leases.md).
pub fn address_name(network: &str, address: IpAddr) -> String {
    const LONGEST: usize = link::FURTHER_NAME_MAX - "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:".len();
    if network.len() <= LONGEST {
        return format!("{network}:{address}");
    }
    format!("{:016x}:{address}", hash(&["network", network]))
}

/// What the host ends of our veth pairs begin with.
pub const HOST_PREFIX: &str = "hdl";

/// Longest id of a container that is kept as it is, in bytes; containerd's and CRI-O's have 64.
pub const ID_MAX: usize = 80;

/// The name of the host's end: 15 bytes, the longest that the kernel takes, 48 of its bits from the attachment.
///
/// It is not made from the pod's name: a pod that is made anew has the same name while its predecessor's link still
/// stands.
pub fn host_link(attachment: &Attachment) -> String {
    let Attachment { network, container, ifname } = attachment;
    format!("{HOST_PREFIX}{:012x}", fold(hash(&["link", network, container, ifname])))
}

/// The Ethernet address of the host's end.
pub fn host_mac(attachment: &Attachment) -> Mac {
    let Attachment { network, container, ifname } = attachment;
    Mac::local(fold(hash(&["host", network, container, ifname])))
}

/// The Ethernet address of the pod's end, from its first address in the network: who gets an address after another
/// pod is found at once, because the neighbours that still remember the old holder are right.
pub fn pod_mac(network: &str, first: IpAddr) -> Mac {
    Mac::local(fold(hash(&["pod", network, &first.to_string()])))
}

/// 64 bits down to 48.
fn fold(hash: u64) -> u64 {
    (hash ^ (hash >> 48)) & 0xffff_ffff_ffff
}

/// A hash of the parts, each with a separator that no part contains.
pub fn hash(parts: &[&str]) -> u64 {
    mix(parts.iter().flat_map(|part| part.bytes().chain([0])))
}

/// FNV-1a, finished. Not the standard library's hasher: that one may change with the compiler.
fn mix(bytes: impl Iterator<Item = u8>) -> u64 {
    finish(bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)))
}

/// `MurmurHash3`'s finaliser: every bit depends on every other.
fn finish(mut h: u64) -> u64 {
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        h = (h ^ (h >> 33)).wrapping_mul(factor);
    }
    h ^ (h >> 33)
}

/// A checksum of bytes at a place, against torn, damaged and misplaced ones; eight bytes at a time, since every unit of
/// the lease table that is read is checked.
pub fn checksum(place: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let mut h = place ^ bytes.len() as u64;
    for word in words.iter().chain([&last]) {
        h = (h ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
    finish(h)
}

/// The checksum of a line of a lease file of the first form.
pub fn line_checksum(text: &str) -> u64 {
    hash(&[text])
}

/// A container's id in at most [`ID_MAX`] bytes. Longer ones, which the specification allows and no runtime makes, are
/// their beginning and 128 bits of hashes; what stands between is legal in no id, so that none is taken for another.
pub fn short(container: &str) -> String {
    if container.len() <= ID_MAX {
        return container.to_owned();
    }
    let begin: String = container.chars().take(ID_MAX / 2).filter(char::is_ascii).collect();
    format!("{begin}~{:016x}{:016x}", hash(&["id", container]), hash(&["again", container]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn attachment(network: &str, container: &str, ifname: &str) -> Attachment {
        Attachment { network: network.to_owned(), container: container.to_owned(), ifname: ifname.to_owned() }
    }

    /// cni:K1, cni:#19: the unit is (network, container, interface), and each part counts; the pod's name does not.
    #[test]
    fn every_part_of_the_attachment_changes_the_name() {
        let all = [
            ("n", "c", "eth0"),
            ("m", "c", "eth0"),
            ("n", "d", "eth0"),
            ("n", "c", "eth1"),
            ("nc", "", "eth0"),
        ];
        let names: BTreeSet<_> = all.iter().map(|(n, c, i)| host_link(&attachment(n, c, i))).collect();
        assert_eq!(names.len(), all.len());
        assert!(names.iter().all(|name| name.len() <= link::NAME_MAX));
    }

    #[test]
    fn the_name_for_an_address_says_it_and_fits_for_any_network() {
        let address = "fd00:244:1::2".parse().unwrap();
        assert_eq!(address_name("pods", address), "pods:fd00:244:1::2");
        let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe".parse().unwrap();
        let names: BTreeSet<_> = (86..90).map(|length| address_name(&"n".repeat(length), longest)).collect();
        assert_eq!(names.len(), 4);
        assert!(names.iter().all(|name| name.len() <= link::FURTHER_NAME_MAX));
    }

    #[test]
    fn long_ids_become_short_and_stay_apart() {
        let (one, two) = ("a".repeat(131_072), "a".repeat(131_071));
        let all = BTreeSet::from([short(&one), short(&two), short(&one[..81]), short(&one[..80])]);
        assert_eq!(all.len(), 4);
        assert!(all.iter().all(|id| id.len() <= ID_MAX && short(id) == *id), "{all:?}");
    }

    /// A newer program must find the links of an older one.
    #[test]
    fn names_stay_what_they_were() {
        let attachment = attachment("pods", "0123456789abcdef", "eth0");
        assert_eq!(host_link(&attachment), "hdl38eab5360528");
        assert_eq!(host_mac(&attachment).to_string(), "12:6a:87:c2:74:da");
        assert_eq!(pod_mac("pods", [10, 244, 0, 2].into()).to_string(), "22:3b:d9:26:7c:25");
    }
}
