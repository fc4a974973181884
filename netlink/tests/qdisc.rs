//! Token buckets on the real kernel, in a network namespace that goes with its thread.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use heddle_netlink::link::{self, Bridge, LinkIndex, Mac, Which};
use heddle_netlink::qdisc::{TokenBucket, delete, fetch};
use heddle_netlink::{Batch, Errno, Family, Socket};

/// Runs a test on a thread in a fresh network namespace, with a link.
fn with_a_link(test: impl FnOnce(&mut Socket, LinkIndex) + Send + 'static) {
    let thread = std::thread::spawn(|| {
        #[expect(
            unsafe_code,
            reason = "only this thread, which shares no file descriptors, leaves the namespace"
        )]
        // SAFETY: NEWNET does not unshare the file descriptor table.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect("needs root");
        let mut socket = Socket::open(Family::Route).unwrap();
        let mut batch = Batch::new();
        Bridge { name: "br0", mac: Mac::local(1), mtu: None }.create(&mut batch);
        socket.request(&mut batch).unwrap();
        let link = link::fetch(&mut socket, Which::Name("br0")).unwrap().unwrap();
        test(&mut socket, link.index);
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

fn set(socket: &mut Socket, link: LinkIndex, bucket: TokenBucket) -> Result<(), heddle_netlink::Error> {
    let mut batch = Batch::new();
    bucket.set(&mut batch, link);
    socket.request(&mut batch)
}

#[test]
fn a_bucket_is_read_back_as_it_was_set_and_replaced() {
    with_a_link(|socket, link| {
        assert_eq!(fetch(socket, link).unwrap(), None);
        for (rate, burst) in [(1_000, 2_000), (125_000_000, 65_536), (8_000_000_000, 1_000_000)] {
            let bucket = TokenBucket { rate, burst, limit: burst * 2 };
            set(socket, link, bucket).unwrap();
            let read = fetch(socket, link).unwrap().unwrap();
            assert_eq!((read.rate, read.limit), (rate, burst * 2));
            // 64 ns' worth, and a byte for each rounding.
            let lost = u64::from(burst.abs_diff(read.burst));
            assert!(lost <= rate * 64 / 1_000_000_000 + 2, "{rate}: {burst} became {}", read.burst);
        }
        let mut batch = Batch::new();
        delete(&mut batch, link);
        socket.request(&mut batch).unwrap();
        assert_eq!(fetch(socket, link).unwrap(), None);
    });
}

#[test]
fn a_bucket_without_room_is_refused() {
    with_a_link(|socket, link| {
        let refused = set(socket, link, TokenBucket { rate: 1_000, burst: 0, limit: 1 });
        assert_eq!(refused.unwrap_err().errno(), Some(Errno::INVAL));
    });
}
