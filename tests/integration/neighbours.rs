//! `heddle-proxy` among neighbours that mean harm: somebody edits our tables, and somebody kills us at the worst moment.

use heddle_netlink::nft::{self, Table, TableFamily};
use heddle_netlink::{Family, Socket};
use heddle_proxy::agent::{Agent, Event};
use heddle_proxy::convert::Names;
use heddle_proxy::model::{Change, Kind};
use heddle_proxy::nft::{FakeKernel, Nft, Settings, ruleset};
use heddle_proxy::watch::documents::{self, Format};
use heddle_tests::lab::{Lab, Node};
use heddle_tests::objects::{list, service, slice};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::proxy::{Manifests, Proxy};
use rustix::process::Signal;
use std::error::Error;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

type Outcomes = Result<(), Box<dyn Error>>;

const TARGET: u16 = 8080;
/// Files of ten Services each.
const FILES: u8 = 20;

/// Ten Services with an endpoint each; which one, and how many ports, is another matter in each state.
fn file(number: u8, state: u8) -> Result<String, Box<dyn Error>> {
    let mut items = Vec::new();
    // The last ones come and go.
    for one in 0..(10 - (state + number) % 3) {
        let name = format!("s-{number}-{one}");
        let endpoint: IpAddr = [10, 244, number, 1 + (state + one) % 200].into();
        items.push(service(&name, &[[10, 96, number, one].into()], 80 + u16::from(state % 2), TARGET));
        if !(state + one).is_multiple_of(4) {
            items.push(slice(&name, "node-2", &[endpoint], TARGET));
        }
    }
    Ok(list(&items).to_string())
}

/// The tables that these files mean, by a proxy without a kernel.
fn wanted(files: &[String]) -> Vec<Table> {
    let mut agent = Agent::new("node-1", Nft::new(FakeKernel::default(), &Settings::default()));
    let mut names = Names::default();
    for text in files {
        let parsed = documents::parse(Format::Json, text.as_bytes(), "node-1", &mut names);
        let changes = parsed.objects.into_iter().map(|(key, object)| object.applied(key));
        changes.for_each(|change| agent.take(Event::Change(change)));
    }
    for kind in [Kind::Service, Kind::Slice] {
        agent.take(Event::Change(Change::Complete(kind)));
    }
    agent.sync();
    agent.dataplane().tables().cloned().collect()
}

/// Our tables as the node's kernel holds them.
fn held(node: &Node) -> Result<Vec<Option<Table>>, String> {
    let load = || -> Result<_, heddle_netlink::Error> {
        let mut socket = Socket::open(Family::Netfilter)?;
        let families = [TableFamily::Ip, TableFamily::Ip6];
        families.into_iter().map(|family| nft::load(&mut socket, family, ruleset::TABLE)).collect()
    };
    node.namespace().enter(load).map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

fn comes_to(node: &Node, wanted: &[Table], limit: Duration) -> Outcomes {
    eventually("the tables as they are wanted", limit, || {
        let held = held(node)?;
        if held.iter().flatten().eq(wanted) { Ok(()) } else { Err(format!("{held:?}")) }
    })?;
    Ok(())
}

/// A node with a proxy over all files in the first state.
fn start(lab: &Lab) -> Result<(Manifests, Proxy, Vec<String>), Box<dyn Error>> {
    let node = lab.node("node-1")?;
    let manifests = Manifests::of(node)?;
    let files = (0..FILES).map(|number| file(number, 0)).collect::<Result<Vec<_>, _>>()?;
    for (number, text) in files.iter().enumerate() {
        manifests.put(&format!("{number}.json"), text)?;
    }
    let proxy = Proxy::start(node, &manifests)?;
    proxy.ready(node)?;
    Ok((manifests, proxy, files))
}

/// kp:H6, kp:P6: whatever somebody does to our table, it is whole again within a second.
#[test]
fn every_edit_of_our_table_by_others_is_undone_within_a_second() -> Outcomes {
    let lab = Lab::new(&["node-1"])?;
    let node = lab.node("node-1")?;
    let (_manifests, mut proxy, files) = start(&lab)?;
    let wanted = wanted(&files);
    comes_to(node, &wanted, PATIENCE)?;
    for damage in [
        &["flush ruleset"][..],
        &["delete table ip heddle-proxy"],
        &["delete element ip heddle-proxy services { 10.96.0.1 . tcp . 80 }"],
        &[
            "delete element ip heddle-proxy endpoints { 10.96.0.1 . tcp . 80 . 0 }",
            "add element ip heddle-proxy endpoints { 10.96.0.1 . tcp . 80 . 0 : 192.0.2.1 . 80 }",
        ],
        &["add element ip heddle-proxy hairpin { 192.0.2.1 . 192.0.2.1 }"],
        &["insert rule ip heddle-proxy prerouting drop"],
        &["add rule ip heddle-proxy cluster-1 drop"],
        &["flush chain ip heddle-proxy cluster-1"],
        &["add chain ip heddle-proxy intruder", "add rule ip heddle-proxy intruder accept"],
        &["add set ip heddle-proxy intruder { type ipv4_addr; }"],
        &["add table ip heddle-proxy { flags dormant; }"],
    ] {
        let script = damage.join("\n");
        proxy.process().pause()?;
        let done = node.nft([&*script])?;
        assert!(done.status.success(), "{script}: {done:?}");
        assert!(!held(node)?.iter().flatten().eq(&wanted), "{script} does no damage");
        proxy.process().signal(Signal::CONT)?;
        comes_to(node, &wanted, Duration::from_secs(1))
            .map_err(|error| format!("{script}: {error}\n{}", proxy.log()))?;
    }
    Ok(())
}

/// A linear congruential generator: the same moments in each run.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

#[test]
fn killed_at_any_moment_the_next_proxy_finds_what_is_to_be_done() -> Outcomes {
    let lab = Lab::new(&["node-1"])?;
    let node = lab.node("node-1")?;
    let (manifests, mut proxy, mut files) = start(&lab)?;
    let mut seed = 50;
    for round in 1..=50 {
        let process = proxy.process();
        let moment = Duration::from_micros(next(&mut seed) % 20_000);
        let changed = thread::scope(|scope| -> Result<Vec<(usize, String)>, Box<dyn Error>> {
            let killing = scope.spawn(|| {
                thread::park_timeout(moment);
                process.kill().map_err(|error| error.to_string())
            });
            let mut changed = Vec::new();
            for number in 0..FILES {
                if next(&mut seed).is_multiple_of(2) {
                    let text = file(number, round)?;
                    manifests.put(&format!("{number}.json"), &text)?;
                    changed.push((usize::from(number), text));
                }
            }
            killing.join().map_err(|_| "the killer panicked")??;
            Ok(changed)
        })?;
        for (number, text) in changed {
            files[number] = text;
        }
        proxy = Proxy::start(node, &manifests)?;
        comes_to(node, &wanted(&files), PATIENCE)
            .map_err(|error| format!("round {round}: {error:.300}\n{}", proxy.log()))?;
    }
    Ok(())
}
