//! The messages byte by byte, since few kernels of test machines know VLANs.

use super::*;

const BRIDGE: LinkIndex = LinkIndex(3);
const PORT: LinkIndex = LinkIndex(0x0102);

/// The one message of a batch: its kind, its `ifinfomsg` and what follows.
fn message(write: impl FnOnce(&mut Batch) -> u32) -> (u16, Vec<u8>, Vec<u8>) {
    let mut batch = Batch::new();
    write(&mut batch);
    let (reply, rest) = Reply::split(batch.seal(1)).unwrap();
    assert!(rest.is_empty());
    (reply.kind, reply.body[..IFINFOMSG].to_vec(), reply.body[IFINFOMSG..].to_vec())
}

/// 16-bit numbers in the machine's byte order, as attributes have them.
fn words(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn ifinfomsg(family: u8, index: u32) -> Vec<u8> {
    let mut bytes = vec![family, 0, 0, 0];
    bytes.extend(index.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes
}

#[test]
fn an_access_port_has_one_vlan_with_both_flags() {
    let access = Range { first: 7, last: 7, tagging: Tagging::ACCESS };
    let (kind, header, body) = message(|batch| add(batch, PORT, &[access]));
    // IFLA_AF_SPEC | NLA_F_NESTED, then IFLA_BRIDGE_FLAGS (master), then a bridge_vlan_info (pvid, untagged).
    let expected = words(&[20, 26 | 0x8000, 6, 0, 1, 0, 8, 2, 2 | 4, 7]);
    assert_eq!((kind, header, body), (19, ifinfomsg(7, 0x0102), expected));
}

#[test]
fn a_trunk_has_pairs_for_ranges_and_single_vlans_for_others() {
    let trunk = |first, last| Range { first, last, tagging: Tagging::TRUNK };
    let (kind, _, body) = message(|batch| add(batch, PORT, &[trunk(10, 12), trunk(4094, 4094)]));
    let expected = words(&[36, 26 | 0x8000, 6, 0, 1, 0, 8, 2, 8, 10, 8, 2, 16, 12, 8, 2, 0, 4094]);
    assert_eq!((kind, body), (19, expected));
}

#[test]
fn a_port_loses_a_vlan_and_a_bridge_gets_one_for_itself() {
    let one = |id| [Range { first: id, last: id, tagging: Tagging::TRUNK }];
    let (kind, header, body) = message(|batch| remove(batch, PORT, &one(1)));
    let expected = words(&[20, 26 | 0x8000, 6, 0, 1, 0, 8, 2, 0, 1]);
    assert_eq!((kind, header, body), (17, ifinfomsg(7, 0x0102), expected));
    let (kind, header, body) = message(|batch| add_to_bridge(batch, BRIDGE, &one(7)));
    let expected = words(&[20, 26 | 0x8000, 6, 0, 2, 0, 8, 2, 0, 7]);
    assert_eq!((kind, header, body), (19, ifinfomsg(7, 3), expected));
}

/// `nla` without its header: what a nest holds.
fn nested(body: &[u8], path: &[u16]) -> Vec<u8> {
    let inner = path.iter().fold(Attributes::new(body), |found, kind| found.get_nest(*kind).unwrap());
    inner.flat_map(|(kind, value)| [&kind.to_ne_bytes()[..], value].concat()).collect()
}

#[test]
fn a_bridge_is_told_to_tell_vlans_apart() {
    let (kind, header, body) = message(|batch| filter(batch, BRIDGE));
    assert_eq!((kind, header), (16, ifinfomsg(0, 3)));
    assert_eq!(Attributes::new(&body).get_nest(18).unwrap().get_str(1), Some("bridge"));
    assert_eq!(nested(&body, &[18, 2]), [&7_u16.to_ne_bytes()[..], &[1]].concat());
}

#[test]
fn a_vlan_link_stands_on_its_bridge() {
    let link = VlanLink { name: "cni0.7", bridge: BRIDGE, id: 7 };
    let (kind, header, body) = message(|batch| link.create(batch));
    let up = [&[0; 8][..], &1_u32.to_ne_bytes(), &1_u32.to_ne_bytes()].concat();
    assert_eq!((kind, header), (16, up));
    let attributes = Attributes::new(&body);
    assert_eq!((attributes.get_str(3), attributes.get_u32(5)), (Some("cni0.7"), Some(3)));
    assert_eq!(attributes.get_nest(18).unwrap().get_str(1), Some("vlan"));
    assert_eq!(nested(&body, &[18, 2]), words(&[1, 7]));
}

/// A link's message with these VLANs, as `linux/if_bridge.h` has them.
fn listed(index: u32, vlans: &[[u16; 2]]) -> Vec<u8> {
    let mut body = ifinfomsg(AF_BRIDGE, index);
    let length = u16::try_from(4 + 8 * vlans.len()).unwrap();
    body.extend(words(&[length, IFLA_AF_SPEC]));
    vlans.iter().for_each(|[flags, id]| body.extend(words(&[8, IFLA_BRIDGE_VLAN_INFO, *flags, *id])));
    body
}

#[test]
fn vlans_are_read_one_by_one_and_as_ranges() {
    let body = listed(0x0102, &[[2 | 4, 1], [8, 10], [16, 12], [4, 20]]);
    let reply = Reply { kind: RTM_NEWLINK, flags: 0, seq: 1, body: &body };
    let left = Tagging { pvid: false, untagged: true };
    let expected =
        [(1, Tagging::ACCESS), (10, Tagging::TRUNK), (11, Tagging::TRUNK), (12, Tagging::TRUNK), (20, left)];
    assert_eq!(read(reply, PORT), BTreeMap::from(expected));
    assert_eq!(read(reply, BRIDGE), BTreeMap::new(), "another port's");
    let other = Reply { kind: RTM_DELLINK, ..reply };
    assert_eq!(read(other, PORT), BTreeMap::new());
}

#[test]
fn what_a_bridge_does_with_vlans_is_read_where_the_kernel_says_it() {
    let mut data = words(&[5, 7]);
    data.extend([1, 0, 0, 0]);
    data.extend(words(&[6, 39, 5, 0]));
    assert_eq!(Filter::read(Attributes::new(&data)), Some(Filter { on: true, default: 5 }));
    assert_eq!(Filter::read(Attributes::new(&data[8..])), None);
}
