//! Features of links on the real kernel, in a network namespace that goes with its thread.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use heddle_netlink::features::{is_on, set};
use heddle_netlink::link::{self, Bridge, LinkIndex, Mac, Which};
use heddle_netlink::{Batch, Errno, Family, Socket};

const CHECKSUM: &str = "tx-checksum-ip-generic";
const BRIDGE: Which<'static> = Which::Name("br0");

fn in_a_namespace(test: impl FnOnce(&mut Socket, LinkIndex) + Send + 'static) {
    let thread = std::thread::spawn(|| {
        #[expect(
            unsafe_code,
            reason = "only this thread, which shares no file descriptors, leaves the namespace"
        )]
        // SAFETY: NEWNET does not unshare the file descriptor table.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect("needs root");
        let mut routes = Socket::open(Family::Route).unwrap();
        let mut batch = Batch::new();
        Bridge { name: "br0", mac: Mac::local(1), mtu: None }.create(&mut batch);
        routes.request(&mut batch).unwrap();
        let bridge = link::fetch(&mut routes, BRIDGE).unwrap().unwrap().index;
        test(&mut Socket::open(Family::Generic).unwrap(), bridge);
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

#[test]
fn a_feature_is_switched_off_and_on_again_by_name_and_by_number() {
    in_a_namespace(|socket, index| {
        for bridge in [BRIDGE, Which::Index(index)] {
            assert_eq!(is_on(socket, bridge, CHECKSUM).unwrap(), Some(true));
            for on in [false, false, true] {
                assert_eq!(set(socket, bridge, CHECKSUM, on).unwrap(), Some(on));
                assert_eq!(is_on(socket, bridge, CHECKSUM).unwrap(), Some(on));
                assert_eq!(
                    is_on(socket, bridge, "tx-generic-segmentation").unwrap(),
                    Some(true),
                    "untouched"
                );
            }
        }
    });
}

#[test]
fn a_feature_that_the_link_does_not_let_go_is_told_as_it_is() {
    in_a_namespace(|socket, _| {
        let lo = Which::Name("lo");
        assert_eq!(is_on(socket, lo, CHECKSUM).unwrap(), Some(true));
        assert_eq!(set(socket, lo, CHECKSUM, false).unwrap(), Some(true));
        assert_eq!(is_on(socket, lo, "tx-checksum-ipv4").unwrap(), Some(false));
        assert_eq!(set(socket, lo, "tx-checksum-ipv4", true).unwrap(), Some(false));
    });
}

#[test]
fn an_unknown_feature_is_not_there_and_an_unknown_link_is_an_error() {
    in_a_namespace(|socket, _| {
        assert_eq!(is_on(socket, BRIDGE, "tx-by-pigeon").unwrap(), None);
        assert_eq!(set(socket, BRIDGE, "tx-by-pigeon", true).unwrap(), None);
        let missing = Which::Name("nowhere");
        assert_eq!(is_on(socket, missing, CHECKSUM).unwrap_err().errno(), Some(Errno::NODEV));
        assert_eq!(set(socket, missing, CHECKSUM, true).unwrap_err().errno(), Some(Errno::NODEV));
    });
}
