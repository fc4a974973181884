//! VLANs on the real kernel, in a network namespace that goes with its thread.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use heddle_netlink::link::{self, Bridge, LinkIndex, Mac, Which};
use heddle_netlink::vlan;
use heddle_netlink::{Batch, Errno, Family, Socket};
use std::collections::BTreeMap;

fn in_a_namespace(test: impl FnOnce(&mut Socket) + Send + 'static) {
    let thread = std::thread::spawn(|| {
        #[expect(
            unsafe_code,
            reason = "only this thread, which shares no file descriptors, leaves the namespace"
        )]
        // SAFETY: NEWNET does not unshare the file descriptor table.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect("needs root");
        test(&mut Socket::open(Family::Route).unwrap());
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

fn bridge(name: &str, mac: Mac) -> Batch {
    let mut batch = Batch::new();
    Bridge { name, mac, mtu: None }.create(&mut batch);
    batch
}

/// Two ways to ask that have nothing in common: a kernel that knows VLANs says which one new ports of a bridge get.
#[test]
fn the_probe_says_what_a_bridge_says_and_makes_nothing() {
    in_a_namespace(|socket| {
        let supported = vlan::is_supported(socket).unwrap();
        assert_eq!(link::list(socket, "bridge").unwrap(), [], "it made a bridge");
        socket.request(&mut bridge("br0", Mac::local(1))).unwrap();
        let made = link::fetch(socket, Which::Name("br0")).unwrap().unwrap();
        assert_eq!((vlan::is_supported(socket).unwrap(), made.vlans.is_some()), (supported, supported));
        assert_eq!(link::list(socket, "bridge").unwrap().len(), 1);
    });
}

/// What the probe relies on: the driver refuses an attribute before anybody looks at the name, and the name is refused.
#[test]
fn a_bridge_with_an_impossible_name_is_refused_for_its_attributes_first() {
    in_a_namespace(|socket| {
        let multicast = Mac([1, 0, 0x5e, 0, 0, 1]);
        let mut refused = |mac| socket.request(&mut bridge("/", mac)).unwrap_err().errno();
        assert_eq!(refused(multicast), Some(Errno::ADDRNOTAVAIL));
        assert_eq!(refused(Mac::local(1)), Some(Errno::INVAL));
    });
}

#[test]
fn a_link_that_is_no_port_has_no_vlans() {
    in_a_namespace(|socket| {
        socket.request(&mut bridge("br0", Mac::local(1))).unwrap();
        assert_eq!(vlan::fetch(socket, LinkIndex(1)).unwrap(), BTreeMap::new());
    });
}
