//! Tracked flows on the real kernel, each test in a network namespace of its own that goes with its thread.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use heddle_netlink::conntrack::{Destination, Filter, Flow, Tuple, forget, list};
use heddle_netlink::message::{Batch, CREATE, EXCL, Writer};
use heddle_netlink::{Family, Socket};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

const UDP: u8 = 17;
const SCTP: u8 = 132;

/// Runs a test on a thread in a fresh network namespace. The namespace is gone when the thread is.
fn in_namespace(test: impl FnOnce(Socket) + Send + 'static) {
    let thread = std::thread::spawn(|| {
        #[expect(
            unsafe_code,
            reason = "only this thread, which shares no file descriptors, leaves the namespace"
        )]
        // SAFETY: NEWNET does not unshare the file descriptor table.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect("needs root");
        test(Socket::open(Family::Netfilter).unwrap());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Client number `n` asks a Service's address and an endpoint answers.
fn flow(v6: bool, n: u16) -> Flow {
    let host = |net: u16, n: u16| -> IpAddr {
        let [high, low] = n.to_be_bytes();
        if v6 {
            [0xfd00, net, 0, 0, 0, 0, 0, n].into()
        } else {
            [10, u8::try_from(net).unwrap(), high, low].into()
        }
    };
    let client = SocketAddr::new(host(1, n), 40_000);
    Flow {
        protocol: UDP,
        original: Tuple { source: client, destination: SocketAddr::new(host(96, 1 + n % 4), 53) },
        reply: Tuple { source: SocketAddr::new(host(2, 7), 5353), destination: client },
        id: 0,
        zone: 0,
    }
}

/// Makes flows as the kernel would have seen them (`IPCTNL_MSG_CT_NEW`).
fn make(socket: &mut Socket, flows: &[Flow]) {
    for chunk in flows.chunks(100) {
        let mut batch = Batch::new();
        for flow in chunk {
            let family = if flow.original.source.is_ipv4() { 2 } else { 10 };
            batch.push(1 << 8, CREATE | EXCL, &[family, 0, 0, 0], |w| {
                w.nest(1, |w| put_tuple(w, flow.protocol, &flow.original));
                w.nest(2, |w| put_tuple(w, flow.protocol, &flow.reply));
                w.put_be32(7, 600);
                if flow.zone != 0 {
                    w.put(18, &flow.zone.to_be_bytes());
                }
            });
        }
        socket.request(&mut batch).unwrap();
    }
}

fn put_tuple(w: &mut Writer<'_>, protocol: u8, tuple: &Tuple) {
    w.nest(1, |w| {
        for (kind, end) in (1..).zip([tuple.source, tuple.destination]) {
            match end.ip() {
                IpAddr::V4(ip) => w.put(kind, &ip.octets()),
                IpAddr::V6(ip) => w.put(kind + 2, &ip.octets()),
            }
        }
    });
    w.nest(2, |w| {
        w.put_u8(1, protocol);
        w.put(2, &tuple.source.port().to_be_bytes());
        w.put(3, &tuple.destination.port().to_be_bytes());
    });
}

fn all(v6: bool) -> Filter {
    let destination = if v6 { Destination::AnyV6 } else { Destination::AnyV4 };
    Filter { destination, protocol: UDP, port: None }
}

/// Flows without the numbers that the kernel gave them.
fn known(flows: &[Flow]) -> BTreeSet<Flow> {
    flows.iter().map(|flow| Flow { id: 0, ..*flow }).collect()
}

#[test]
fn three_flows_of_two_thousand_are_forgotten_and_the_others_stay() {
    for v6 in [false, true] {
        in_namespace(move |mut socket| {
            let made: Vec<Flow> = (0..2000).map(|n| flow(v6, n)).collect();
            make(&mut socket, &made);
            let listed = list(&mut socket, &all(v6), |_| true).unwrap();
            assert_eq!(known(&listed), known(&made));
            let unwanted =
                |flow: &Flow| [7, 77, 1777].map(|n| self::flow(v6, n).original).contains(&flow.original);
            let some = list(&mut socket, &all(v6), unwanted).unwrap();
            assert_eq!(some.len(), 3);
            assert_eq!(forget(&mut socket, &some).unwrap(), 3);
            let left: Vec<Flow> = made.into_iter().filter(|flow| !unwanted(flow)).collect();
            assert_eq!(known(&list(&mut socket, &all(v6), |_| true).unwrap()), known(&left));
        });
    }
}

#[test]
fn more_flows_than_one_call_takes_are_all_forgotten() {
    in_namespace(|mut socket| {
        make(&mut socket, &(0..1000).map(|n| flow(false, n)).collect::<Vec<_>>());
        let listed = list(&mut socket, &all(false), |_| true).unwrap();
        assert_eq!(forget(&mut socket, &listed).unwrap(), 1000);
        assert_eq!(list(&mut socket, &all(false), |_| true).unwrap(), []);
    });
}

#[test]
fn the_kernel_itself_sends_only_what_the_filter_asks_for() {
    for v6 in [false, true] {
        in_namespace(move |mut socket| {
            let mut made: Vec<Flow> = (0..40).map(|n| flow(v6, n)).collect();
            made[0].original.destination.set_port(54);
            made[4].protocol = SCTP;
            make(&mut socket, &made);
            make(&mut socket, &[flow(!v6, 0)]);
            let address = Destination::Address(flow(v6, 0).original.destination.ip());
            // An IPv6 address is left to us, see `Filter::request`.
            let filters = [
                (all(v6), 39, 39),
                (Filter { port: Some(53), ..all(v6) }, 38, 38),
                (Filter { destination: address, ..all(v6) }, if v6 { 39 } else { 9 }, 9),
                (Filter { destination: address, port: Some(53), ..all(v6) }, if v6 { 38 } else { 8 }, 8),
                (Filter { protocol: SCTP, ..all(v6) }, 1, 1),
            ];
            for (filter, by_kernel, in_all) in filters {
                let mut batch = Batch::new();
                filter.request(&mut batch);
                let sent = socket.dump(&mut batch, |sent: &mut usize, _| *sent += 1).unwrap();
                let listed = list(&mut socket, &filter, |_| true).unwrap().len();
                assert_eq!((sent, listed), (by_kernel, in_all), "{filter:?}");
            }
        });
    }
}

#[test]
fn a_flow_with_another_number_stays() {
    in_namespace(|mut socket| {
        make(&mut socket, &[flow(false, 1)]);
        let listed = list(&mut socket, &all(false), |_| true).unwrap();
        let other: Vec<Flow> = listed.iter().map(|flow| Flow { id: !flow.id, ..*flow }).collect();
        assert_eq!(forget(&mut socket, &other).unwrap(), 0);
        assert_eq!(list(&mut socket, &all(false), |_| true).unwrap(), listed);
    });
}

#[test]
fn a_flow_that_is_gone_already_does_not_keep_the_others() {
    in_namespace(|mut socket| {
        make(&mut socket, &(0..10).map(|n| flow(false, n)).collect::<Vec<_>>());
        let listed = list(&mut socket, &all(false), |_| true).unwrap();
        let last = &listed[9..];
        assert_eq!(forget(&mut socket, last).unwrap(), 1);
        assert_eq!(forget(&mut socket, &listed).unwrap(), 9);
        assert_eq!(forget(&mut socket, &listed).unwrap(), 0);
    });
}

#[test]
fn of_two_zones_with_the_same_flow_only_one_loses_it() {
    in_namespace(|mut socket| {
        let zoned = Flow { zone: 5, ..flow(false, 1) };
        make(&mut socket, &[flow(false, 1), zoned]);
        let listed = list(&mut socket, &all(false), |flow| flow.zone == 5).unwrap();
        assert_eq!(known(&listed), known(&[zoned]));
        assert_eq!(forget(&mut socket, &listed).unwrap(), 1);
        assert_eq!(known(&list(&mut socket, &all(false), |_| true).unwrap()), known(&[flow(false, 1)]));
    });
}
