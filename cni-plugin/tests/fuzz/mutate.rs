//! Inputs that come from good ones by damage, as a fuzzer makes them; each follows from its number alone.

use heddle_cni::spec::Environment;

/// Good configurations, and bad ones that once were worth keeping.
pub(crate) const CORPUS: [&[u8]; 9] = [
    include_bytes!("corpus/bridge.json"),
    include_bytes!("corpus/bytes.json"),
    include_bytes!("corpus/check.json"),
    include_bytes!("corpus/containerd.json"),
    include_bytes!("corpus/deep.json"),
    include_bytes!("corpus/empty.json"),
    include_bytes!("corpus/gc.json"),
    include_bytes!("corpus/list.json"),
    include_bytes!("corpus/old.json"),
];

/// What parsers stumble over.
const TOKENS: [&str; 24] = [
    "null",
    "true",
    "[]",
    "{}",
    "\"\"",
    "-1",
    "0",
    "1e999",
    "18446744073709551616",
    "0.5",
    "\"0.0.0.0/0\"",
    "\"::/0\"",
    "\"10.0.0.0/33\"",
    "\"::ffff:1.2.3.4\"",
    "\"\\ud800\"",
    "\"\\u0000\"",
    "\"../..\"",
    "\"1.1.0\"",
    "\"0.1.0\"",
    "\"a\":",
    ",",
    "\"ff:ff:ff:ff:ff:ff\"",
    "4294967296",
    "[[[[]]]]",
];

const COMMANDS: [&str; 8] = ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION", "", "add"];
const NAMES: [&str; 10] =
    ["c1", "", "..", "a/b", "eth0", "fifteen-bytes-x", "sixteen-bytes-xy", "x%d", "ü", "a\u{0}b"];
const ARGS: [&str; 8] = [
    "",
    "IgnoreUnknown=1;K8S_POD_NAME=a;K8S_POD_NAMESPACE=b",
    "A",
    "A=B",
    "IP=10.1.0.9;MAC=02:00:00:00:00:01",
    "IgnoreUnknown=true;A=B=C",
    "K8S_POD_NAME=;;",
    "IP=x",
];

/// Steele, Lea and Flood's splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ mixed >> 31) % bound.max(1) as u64).unwrap()
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// A configuration with up to six damages.
    pub(crate) fn stdin(&mut self) -> Vec<u8> {
        let mut bytes = self.one(&CORPUS).to_vec();
        for _ in 0..self.below(7) {
            self.damage(&mut bytes);
        }
        bytes
    }

    fn damage(&mut self, bytes: &mut Vec<u8>) {
        let (at, to) = (self.below(bytes.len() + 1), self.below(bytes.len() + 1));
        let (from, to) = (at.min(to), at.max(to).min(at.min(to) + 40));
        match self.below(6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(from..to)),
            2 => bytes.extend_from_within(from..to),
            3 => drop(bytes.splice(at..at, self.one(&TOKENS).bytes())),
            4 => self.replace_value(bytes, at),
            _ if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            _ => {}
        }
    }

    /// Puts a token in the place of what follows the next colon: mostly JSON still, and of another type.
    fn replace_value(&mut self, bytes: &mut Vec<u8>, at: usize) {
        let Some(colon) = bytes[at..].iter().position(|byte| *byte == b':').map(|colon| at + colon + 1)
        else {
            return;
        };
        let end = bytes[colon..]
            .iter()
            .position(|byte| b",}]".contains(byte))
            .map_or(bytes.len(), |end| colon + end);
        drop(bytes.splice(colon..end, self.one(&TOKENS).bytes()));
    }

    /// Every variable good or strange, or not there.
    pub(crate) fn environment(&mut self) -> Environment {
        let mut name = |usual: &str| match self.below(8) {
            0 => None,
            1 => Some((*self.one(&NAMES)).to_owned()),
            _ => Some(usual.to_owned()),
        };
        let (container, ifname) = (name("c1"), name("eth0"));
        let namespace = name("/no/such/namespace");
        let command = Some((*self.one(&COMMANDS)).to_owned());
        let args = Some((*self.one(&ARGS)).to_owned());
        Environment { command, container, namespace, ifname, args, ..Environment::default() }
    }
}
