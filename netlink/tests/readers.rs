//! Readers of what the kernel says, on bytes that no kernel would send.

use heddle_netlink::Reply;
use heddle_netlink::link::Link;
use heddle_netlink::neighbour::Neighbour;
use heddle_netlink::route::Route;
use heddle_netlink::rule::Rule;
use proptest::prelude::*;

/// Attributes that may hold attributes, three deep, each with a number and a value that may be cut.
fn attributes() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![Just(0_usize), Just(1), Just(2), Just(4), Just(8), Just(16), 0..20_usize];
    let plain = length.prop_flat_map(|length| proptest::collection::vec(any::<u8>(), length));
    plain.prop_recursive(3, 24, 6, |inner| {
        proptest::collection::vec((0..60_u16, inner), 0..6).prop_map(|list| {
            let mut bytes = Vec::new();
            for (kind, value) in list {
                bytes.resize(bytes.len().next_multiple_of(4), 0);
                bytes.extend(u16::try_from(value.len() + 4).unwrap_or(4).to_ne_bytes());
                bytes.extend(kind.to_ne_bytes());
                bytes.extend(value);
            }
            bytes
        })
    })
}

proptest! {
    #[test]
    fn no_bytes_of_the_kernel_make_a_reader_panic(
        header in proptest::collection::vec(any::<u8>(), 0..20),
        attributes in attributes(),
    ) {
        for kind in [16, 24, 28, 32] {
            for length in [8, 12, 16] {
                let mut body = header.clone();
                body.resize(length, 0);
                // What a unicast route says in the place of its kind.
                body[7] = 1;
                body.extend(&attributes);
                for body in [&body[..], &header[..]] {
                    let reply = Reply { kind, flags: 0, seq: 1, body };
                    let _ = (Link::read(reply), Route::read(reply), Neighbour::read(reply), Rule::read(reply));
                }
            }
        }
    }
}
