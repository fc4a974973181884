//! Many Services.

use super::{Outcomes, TARGET};
use heddle_netlink::nft::{self, TableFamily};
use heddle_netlink::{Family, Socket};
use heddle_proxy::nft::ruleset;
use heddle_tests::lab::{Lab, Node};
use heddle_tests::objects::{list, service, slice};
use heddle_tests::patience::PATIENCE;
use heddle_tests::proxy::{Manifests, Proxy};
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::mpsc::channel;

/// Number of elements in one of the node's sets.
fn elements(node: &Node, set: &str) -> Result<usize, Box<dyn Error>> {
    let load = || nft::load(&mut Socket::open(Family::Netfilter)?, TableFamily::Ip, ruleset::TABLE);
    let table = node.namespace().enter(load)??.ok_or("there is no table")?;
    Ok(table.sets[set].elements.len())
}

/// 10 000 Services, each with these endpoints.
fn ten_thousand(endpoints: [u8; 3]) -> Vec<(String, String)> {
    let address = |a, b, c, d| IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    (0..100u8)
        .map(|file| {
            let items = (0..100u8).flat_map(|one| {
                let name = format!("s-{file}-{one}");
                let pods = endpoints.map(|last| address(10, 100 + file / 100, file, last));
                [
                    service(&name, &[address(10, 96, file, one)], 80, TARGET),
                    slice(&name, "node-2", &pods, TARGET),
                ]
            });
            (format!("{file}.json"), list(&items.collect::<Vec<_>>()).to_string())
        })
        .collect()
}

/// nfnetlink's group of notifications for nf_tables, and the kind of the message that ends each commit's.
const NFT_GROUP: u32 = 7;
const NEW_GENERATION: u16 = (10 << 8) | 15;

#[test]
fn ten_thousand_services_are_loaded_and_one_changed_endpoint_costs_one_small_batch() -> Outcomes {
    let lab = Lab::new(&["node-1"])?;
    let node = lab.node("node-1")?;
    let manifests = Manifests::of(node)?;
    for (name, text) in ten_thousand([1, 2, 3]) {
        manifests.put(&name, &text)?;
    }
    let proxy = Proxy::start(node, &manifests)?;
    proxy.ready(node)?;
    assert_eq!((elements(node, ruleset::SERVICES)?, elements(node, ruleset::ENDPOINTS)?), (10_000, 30_000));

    let mut socket = node.namespace().enter(|| Socket::open(Family::Netfilter))??;
    socket.subscribe(NFT_GROUP)?;
    let (heard, hear) = channel();
    let listener = std::thread::spawn(move || {
        let (mut kinds, mut whole) = (Vec::new(), true);
        while whole && !kinds.contains(&NEW_GENERATION) {
            whole = socket.listen(|message| kinds.push(message.kind)).unwrap_or(false);
        }
        heard.send((whole, kinds))
    });
    let pods = ["10.100.7.1", "10.100.7.2", "10.100.7.9"]
        .map(str::parse)
        .into_iter()
        .collect::<Result<Vec<IpAddr>, _>>()?;
    let mut files = ten_thousand([1, 2, 3]);
    let (name, text) = files.swap_remove(7);
    let old = slice(
        "s-7-7",
        "node-2",
        &["10.100.7.1".parse()?, "10.100.7.2".parse()?, "10.100.7.3".parse()?],
        TARGET,
    );
    let changed = text.replace(&old.to_string(), &slice("s-7-7", "node-2", &pods, TARGET).to_string());
    assert_ne!(text, changed);
    manifests.put(&name, &changed)?;
    let (whole, kinds) = hear.recv_timeout(PATIENCE)?;
    listener.join().map_err(|_| "the listener panicked")??;
    assert!(whole, "notifications were lost");
    assert_eq!(kinds.len(), 3, "one element out, one in, one new generation: {kinds:?}");
    Ok(())
}
