//! Tunnels on the real kernel: the VXLAN device, the routes that lead into it and the neighbours behind it. Each test has a
//! network namespace of its own that goes with its thread.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use heddle_netlink::address::Address;
use heddle_netlink::link::{self, LinkIndex, Mac, Which};
use heddle_netlink::neighbour::{self, Neighbour};
use heddle_netlink::route::{self, PROTOCOL_HEDDLE_NODE, Route, Tunnel};
use heddle_netlink::tuning::Tuning;
use heddle_netlink::vxlan::{self, Vxlan, VxlanKind};
use heddle_netlink::{Batch, Errno, Error, Family, Socket};
use std::net::{IpAddr, UdpSocket};

const DEVICE: Vxlan<'static> = Vxlan { name: "tunnels", mac: Mac([2, 0, 0, 0, 0, 1]), mtu: 1400, port: 4790 };
/// `RTM_NEWLINK`, and the flags of a link that is set to work.
const NEW_LINK: u16 = 16;
const CREATE: u16 = 0x400 | 0x200 | 0x4;

fn in_a_namespace(test: impl FnOnce(&mut Socket) + Send + 'static) {
    let thread = std::thread::spawn(|| {
        #[expect(
            unsafe_code,
            reason = "only this thread, which shares no file descriptors, leaves the namespace"
        )]
        // SAFETY: NEWNET does not unshare the file descriptor table.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect("needs root");
        let mut socket = Socket::open(Family::Route).unwrap();
        request(&mut socket, |batch| link::set_up(batch, Which::Name("lo"))).unwrap();
        test(&mut socket);
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

fn request(socket: &mut Socket, write: impl FnOnce(&mut Batch) -> u32) -> Result<(), Error> {
    let mut batch = Batch::new();
    write(&mut batch);
    socket.request(&mut batch)
}

fn errno(result: Result<(), Error>) -> Option<Errno> {
    result.unwrap_err().errno()
}

fn device(socket: &mut Socket) -> LinkIndex {
    request(socket, |batch| DEVICE.create(batch)).unwrap();
    link::fetch(socket, Which::Name(DEVICE.name)).unwrap().unwrap().index
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_device_is_read_back_as_it_was_made() {
    in_a_namespace(|socket| {
        let index = device(socket);
        let found = link::fetch(socket, Which::Index(index)).unwrap().unwrap();
        assert_eq!((found.mac, found.mtu, found.up), (Some(DEVICE.mac), DEVICE.mtu, true));
        let kind = VxlanKind { id: 0, port: DEVICE.port, metadata: true, learning: false };
        assert_eq!(found.vxlan, Some(kind));
        assert_eq!(link::list(socket, "vxlan").unwrap(), [found]);
        assert_eq!(link::fetch(socket, Which::Name("lo")).unwrap().unwrap().vxlan, None);
    });
}

/// Nothing is below the device: the kernel takes what it is told, and cuts off only what no packet can have.
#[test]
fn mtu_and_address_of_a_device_are_changed_and_bound_by_nothing() {
    in_a_namespace(|socket| {
        let index = device(socket);
        let mac = Mac([2, 0, 0, 0, 0, 2]);
        let mut tuned = |mtu| {
            let tuning = Tuning { mtu: Some(mtu), mac: Some(mac), ..Tuning::default() };
            request(socket, |batch| tuning.apply(batch, index))?;
            let found = link::fetch(socket, Which::Index(index))?.unwrap();
            Ok((found.mtu, found.mac))
        };
        for mtu in [1280, 8950, 65535] {
            assert_eq!(tuned(mtu).unwrap(), (mtu, Some(mac)));
        }
        assert_eq!(errno(tuned(65536).map(drop)), Some(Errno::INVAL));
    });
}

#[test]
fn a_device_whose_port_or_name_is_taken_is_not_made() {
    in_a_namespace(|socket| {
        let refused = |socket: &mut Socket, vxlan: Vxlan<'_>| {
            let errno = errno(request(socket, |batch| vxlan.create(batch)));
            let made = link::fetch(socket, Which::Name(vxlan.name)).unwrap();
            (errno, made.map(|link| link.up))
        };
        let other = Vxlan { name: "other", ..DEVICE };
        let of_a_program = UdpSocket::bind(("0.0.0.0", DEVICE.port)).unwrap();
        assert_eq!(refused(socket, DEVICE), (Some(Errno::ADDRINUSE), None));
        drop(of_a_program);
        let of_a_program = UdpSocket::bind(("::1", DEVICE.port)).unwrap();
        assert_eq!(refused(socket, DEVICE), (Some(Errno::ADDRINUSE), None));
        drop(of_a_program);
        plain_device(socket, DEVICE.port).unwrap();
        assert_eq!(refused(socket, DEVICE), (Some(Errno::ADDRINUSE), None));
        request(socket, |batch| link::delete(batch, Which::Name("plain"))).unwrap();
        device(socket);
        assert_eq!(refused(socket, DEVICE), (Some(Errno::EXIST), Some(true)));
        assert_eq!(refused(socket, other), (Some(Errno::EXIST), None));
        assert_eq!(errno(plain_device(socket, DEVICE.port)), Some(Errno::ADDRINUSE));
    });
}

/// A device with one virtual network of its own, as others make them: number 7, up.
fn plain_device(socket: &mut Socket, port: u16) -> Result<(), Error> {
    let up = [[0; 4], [0; 4], 1_u32.to_ne_bytes(), 1_u32.to_ne_bytes()].concat();
    request(socket, |batch| {
        batch.push(NEW_LINK, CREATE, &up, |w| {
            w.put_str(3, "plain");
            w.nest(18, |w| {
                w.put_str(1, "vxlan");
                w.nest(2, |w| {
                    w.put_u32(1, 7);
                    w.put(15, &port.to_be_bytes());
                });
            });
        })
    })
}

#[test]
fn a_device_of_others_is_told_from_ours() {
    in_a_namespace(|socket| {
        plain_device(socket, 4789).unwrap();
        let found = link::fetch(socket, Which::Name("plain")).unwrap().unwrap();
        assert_eq!(found.vxlan, Some(VxlanKind { id: 7, port: 4789, metadata: false, learning: true }));
    });
}

fn tunnelled(link: LinkIndex, to: &str, tunnel: &str) -> Route {
    Route {
        protocol: PROTOCOL_HEDDLE_NODE,
        priority: Some(50),
        mtu: Some(1350),
        onlink: true,
        encap: Some(Tunnel { id: 0x00ab_cdef, to: ip(tunnel), checksum: tunnel.contains(':') }),
        ..Route::new(to.parse().unwrap(), Some(ip("fe80::7")), link)
    }
}

fn ours(socket: &mut Socket) -> Vec<Route> {
    let mut routes = route::list(socket).unwrap();
    routes.retain(|route| route.protocol == PROTOCOL_HEDDLE_NODE);
    routes
}

#[test]
fn routes_into_tunnels_are_read_back_as_they_were_written() {
    for to in ["10.244.7.0/24", "fd00:7::/64"] {
        for (first, second) in [("192.0.2.7", "2001:db8::7"), ("2001:db8::8", "192.0.2.8")] {
            in_a_namespace(move |socket| {
                let link = device(socket);
                let (before, after) = (tunnelled(link, to, first), tunnelled(link, to, second));
                request(socket, |batch| before.add(batch)).unwrap();
                assert_eq!(ours(socket), [before]);
                assert_eq!(errno(request(socket, |batch| after.add(batch))), Some(Errno::EXIST));
                request(socket, |batch| after.replace(batch)).unwrap();
                assert_eq!(ours(socket), [after]);
                request(socket, |batch| after.delete(batch)).unwrap();
                assert_eq!(ours(socket), []);
                assert_eq!(errno(request(socket, |batch| after.delete(batch))), Some(Errno::SRCH));
            });
        }
    }
}

#[test]
fn a_route_says_which_address_the_hosts_own_packets_have() {
    for (to, source) in [("10.244.7.0/24", "192.0.2.1"), ("fd00:7::/64", "2001:db8::1")] {
        in_a_namespace(move |socket| {
            let link = device(socket);
            let route = Route { source: Some(ip(source)), ..tunnelled(link, to, "192.0.2.7") };
            assert_eq!(errno(request(socket, |batch| route.add(batch))), Some(Errno::INVAL), "whose is it?");
            let address = Address { link, address: ip(source).into() };
            request(socket, |batch| address.add(batch)).unwrap();
            request(socket, |batch| route.add(batch)).unwrap();
            assert_eq!(ours(socket), [route]);
        });
    }
}

#[test]
fn this_kernel_has_vxlan_and_asking_makes_nothing() {
    in_a_namespace(|socket| {
        assert!(vxlan::is_supported(socket).unwrap());
        let links = link::list_all(socket).unwrap();
        assert_eq!(links, [link::fetch(socket, Which::Name("lo")).unwrap().unwrap()]);
    });
}

/// From one way to the other, as when a node moves to another subnet or back.
#[test]
fn a_route_through_a_gateway_is_replaced_by_one_into_a_tunnel_and_back() {
    for (to, gateway) in [("10.244.7.0/24", "192.0.2.1"), ("fd00:7::/64", "2001:db8::1")] {
        in_a_namespace(move |socket| {
            let link = device(socket);
            let through = tunnelled(link, to, "192.0.2.7");
            let direct = Route { gateway: Some(ip(gateway)), encap: None, ..through };
            for route in [direct, through, direct] {
                request(socket, |batch| route.replace(batch)).unwrap();
                assert_eq!(ours(socket), [route]);
            }
        });
    }
}

#[test]
fn a_route_that_leads_elsewhere_is_not_deleted_for_another_one_of_ipv4() {
    for (to, refusal) in [("10.244.7.0/24", Some(Errno::SRCH)), ("fd00:7::/64", None)] {
        in_a_namespace(move |socket| {
            let link = device(socket);
            request(socket, |batch| tunnelled(link, to, "192.0.2.7").add(batch)).unwrap();
            let deleted = request(socket, |batch| tunnelled(link, to, "192.0.2.8").delete(batch));
            assert_eq!(deleted.err().and_then(|error| error.errno()), refusal);
        });
    }
}

/// `RTM_NEWROUTE` with a tunnel that also has a time to live (`LWTUNNEL_IP_TTL`), which we cannot say.
#[test]
fn a_tunnel_that_has_more_to_it_is_not_taken_for_ours() {
    in_a_namespace(|socket| {
        let LinkIndex(link) = device(socket);
        let header = [2, 32, 0, 0, 254, PROTOCOL_HEDDLE_NODE, 253, 1, 0, 0, 0, 0];
        let written = request(socket, |batch| {
            batch.push(24, CREATE, &header, |w| {
                w.put(1, &[192, 0, 2, 9]);
                w.put_u32(4, link);
                w.put_u16(21, 2);
                w.nest(22, |w| {
                    w.put_be64(1, 5);
                    w.put(2, &[192, 0, 2, 7]);
                    w.put_u8(4, 64);
                });
            })
        });
        written.unwrap();
        let read: Vec<_> = ours(socket).iter().map(|route| (route.encap, route.opaque)).collect();
        assert_eq!(read, [(None, true)]);
    });
}

#[test]
fn neighbours_that_are_known_for_good_are_listed_by_link_replaced_and_deleted() {
    in_a_namespace(|socket| {
        let link = device(socket);
        request(socket, |batch| Vxlan { name: "other", port: 4791, ..DEVICE }.create(batch)).unwrap();
        let other = link::fetch(socket, Which::Name("other")).unwrap().unwrap().index;
        let of =
            |link, address, last| Neighbour { link, address: ip(address), mac: Mac([2, 0, 0, 0, 0, last]) };
        let v6 = of(link, "fe80::7", 7);
        let all = [of(link, "169.254.0.7", 6), v6, of(other, "fe80::7", 8)];
        for neighbour in all {
            request(socket, |batch| neighbour.replace(batch)).unwrap();
        }
        assert_eq!(neighbour::list(socket, link).unwrap(), all[..2]);
        assert_eq!(neighbour::list(socket, other).unwrap(), all[2..]);
        let moved = of(link, "fe80::7", 9);
        request(socket, |batch| moved.replace(batch)).unwrap();
        assert_eq!(neighbour::list(socket, link).unwrap(), [all[0], moved]);
        request(socket, |batch| v6.delete(batch)).unwrap();
        assert_eq!(neighbour::list(socket, link).unwrap(), all[..1]);
        assert_eq!(errno(request(socket, |batch| v6.delete(batch))), Some(Errno::NOENT));
        // `NUD_REACHABLE`: asked for on the wire, once.
        let mut header = [0; 12];
        (header[0], header[8]) = (2, 2);
        header[4..8].copy_from_slice(&link.0.to_ne_bytes());
        let learnt = request(socket, |batch| {
            batch.push(28, CREATE, &header, |w| {
                w.put(1, &[169, 254, 0, 8]);
                w.put(2, &[2, 0, 0, 0, 0, 8]);
            })
        });
        learnt.unwrap();
        assert_eq!(neighbour::list(socket, link).unwrap(), all[..1]);
    });
}
