//! Rules of policy routing on the real kernel, in a network namespace that goes with its thread.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use heddle_netlink::route::PROTOCOL_HEDDLE_NODE;
use heddle_netlink::rule::{Rule, list};
use heddle_netlink::{Batch, Errno, Error, Family, Socket};

/// `RTM_NEWRULE` and `NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK`.
const NEW_RULE: (u16, u16) = (32, 0x400 | 0x200 | 0x4);

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

fn request(socket: &mut Socket, write: impl FnOnce(&mut Batch) -> u32) -> Result<(), Error> {
    let mut batch = Batch::new();
    write(&mut batch);
    socket.request(&mut batch)
}

fn rule(from: &str, table: u32) -> Rule {
    Rule { from: from.parse().unwrap(), table, priority: 100, protocol: PROTOCOL_HEDDLE_NODE }
}

fn ours(socket: &mut Socket) -> Vec<Rule> {
    let mut rules = list(socket).unwrap();
    rules.retain(|rule| rule.protocol == PROTOCOL_HEDDLE_NODE);
    rules
}

#[test]
fn rules_of_both_families_are_read_back_as_they_were_written() {
    in_a_namespace(|socket| {
        let all = [
            rule("10.244.7.0/24", 110),
            rule("0.0.0.0/0", 70_000),
            rule("192.0.2.7/32", 254),
            rule("fd00:7::/64", 110),
            rule("::/0", 70_000),
        ];
        for rule in all {
            request(socket, |batch| rule.add(batch)).unwrap();
            let again = request(socket, |batch| rule.add(batch)).unwrap_err();
            assert_eq!(again.errno(), Some(Errno::EXIST));
        }
        assert_eq!(ours(socket), all);
        for (at, rule) in all.iter().enumerate() {
            request(socket, |batch| rule.delete(batch)).unwrap();
            assert_eq!(ours(socket), all[at + 1..]);
            let again = request(socket, |batch| rule.delete(batch)).unwrap_err();
            assert_eq!(again.errno(), Some(Errno::NOENT));
        }
    });
}

#[test]
fn rules_of_the_kernel_are_told_from_ours_and_survive_them() {
    in_a_namespace(|socket| {
        let before = list(socket).unwrap();
        let places: Vec<_> =
            before.iter().map(|rule| (rule.from.is_ipv4(), rule.priority, rule.table)).collect();
        let expected =
            [(true, 0, 255), (true, 32766, 254), (true, 32767, 253), (false, 0, 255), (false, 32766, 254)];
        assert_eq!(places, expected);
        let other = Rule { priority: 32766, ..rule("0.0.0.0/0", 254) };
        request(socket, |batch| other.add(batch)).unwrap();
        request(socket, |batch| other.delete(batch)).unwrap();
        assert_eq!(list(socket).unwrap(), before);
    });
}

/// The same rule but for one thing more: each header field and some attributes of `linux/fib_rules.h`.
#[test]
fn a_rule_that_says_more_is_not_read() {
    in_a_namespace(|socket| {
        let before = list(socket).unwrap();
        let header = [2, 0, 24, 0, 0, 0, 0, 1, 0, 0, 0, 0];
        let at = |index: usize, value: u8| {
            let mut changed = header;
            changed[index] = value;
            changed
        };
        // `FIB_RULE_INVERT`, in the machine's byte order.
        let inverted = at(if cfg!(target_endian = "little") { 8 } else { 11 }, 2);
        let more: [([u8; 12], u16, &[u8]); 9] = [
            (header, 3, b"lo\0"),
            (header, 10, &7_u32.to_ne_bytes()),
            (header, 14, &[0; 4]),
            (header, 17, b"lo\0"),
            (header, 20, &[0; 8]),
            (header, 22, &[17]),
            (header, 24, &[&53_u16.to_ne_bytes()[..], &53_u16.to_ne_bytes()].concat()),
            (at(1, 32), 1, &[192, 0, 2, 7]),
            (inverted, 6, &99_u32.to_ne_bytes()),
        ];
        for (header, kind, value) in more {
            let written = request(socket, |batch| {
                batch.push(NEW_RULE.0, NEW_RULE.1, &header, |w| {
                    w.put(2, &[10, 244, 7, 0]);
                    w.put_u32(15, 110);
                    w.put_u8(21, PROTOCOL_HEDDLE_NODE);
                    w.put(kind, value);
                })
            });
            written.unwrap();
            assert_eq!(list(socket).unwrap(), before, "{header:?} {kind} {value:?}");
        }
        let unreachable = request(socket, |batch| {
            batch.push(NEW_RULE.0, NEW_RULE.1, &at(7, 7), |w| w.put(2, &[10, 244, 7, 0]))
        });
        unreachable.unwrap();
        assert_eq!(list(socket).unwrap(), before);
    });
}
