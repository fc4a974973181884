//! What people see of the agent's inside, word by word. `BLESS=1` rewrites the files in `look/`.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]
#![expect(clippy::disallowed_methods, reason = "a test's switch comes from the environment")]

use heddle_netlink::link::LinkIndex;
use heddle_node::look::links::{Link, Links};
use heddle_node::look::peers::MOST;
use heddle_node::look::status::{Process, Status};
use heddle_node::problem::Problem;
use heddle_node::view::{Own, Path, Peer, Standing, View, Way};
use jiff::Timestamp;
use serde_json::Value;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

const ETH0: LinkIndex = LinkIndex(2);

fn assert_golden(name: &str, text: &str) {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/look").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, text).unwrap();
    }
    let golden = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(golden == text, "{name} is not what is printed now (BLESS=1 rewrites it):\n{text}");
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + second).unwrap()
}

/// A node that is reached straight, or not.
fn peer(number: u8, is_near: bool) -> (Arc<str>, Peer) {
    let address = IpAddr::from([192, 168, 0, number]);
    let range = format!("10.244.{number}.0/24").parse().unwrap();
    let way = is_near.then_some(Way::Direct { via: address, link: ETH0 });
    let paths = vec![Path { range, way, mtu: None }];
    (format!("node-{number}").into(), Peer { addresses: vec![address], paths })
}

fn lost(number: u8) -> Problem {
    let (node, peer) = peer(number, false);
    Problem::NoAddress { node, range: peer.paths[0].range }
}

fn view() -> View {
    let own = Own {
        ranges: ["10.244.1.0/24", "fd00:10:244:1::/64"].map(|range| range.parse().unwrap()).into(),
        addresses: ["192.168.0.1", "fd00:192::1"].map(|address| address.parse().unwrap()).into(),
    };
    let mut far = peer(4, true);
    (far.1.paths[0].way, far.1.paths[0].mtu) =
        (Some(Way::Vxlan { to: [192, 168, 0, 4].into(), link: LinkIndex(7) }), Some(1450));
    let new = ("node-5".into(), Peer { addresses: vec![[192, 168, 0, 5].into()], paths: Vec::new() });
    View {
        standing: Standing::Whole,
        since: Some(at(600)),
        at: Some(at(3_590)),
        whole: Some(at(3_590)),
        own: Some(own),
        peers: [peer(2, true), peer(3, false), far, new].into(),
        masquerades: true,
        forwards: true,
        mtu: Some(1450),
        problems: [(lost(3), at(3_000))].into(),

        last_failure: Some((at(0), "route to 10.244.2.0/24: no such device".to_owned())),
        repairs: 2,
        repaired: Some(at(1_200)),
        ..View::default()
    }
}

fn links() -> Links {
    let eth0 = Link { name: "eth0".to_owned(), mtu: 1500 };
    Links([(ETH0, eth0)].into())
}

fn process() -> Process {
    Process { node: "node-1".into(), mode: "auto".into(), started: at(-9_000) }
}

/// What a status of this view makes of it: a text, which may have all, JSON, and a sentence.
fn told(view: &View, all: bool) -> (String, Value, Option<String>) {
    let process = process();
    let status = Status { process: &process, view, links: &links(), busy: None, now: at(3_600) };
    (status.text(all), status.json(), status.amiss())
}

fn text(view: &View) -> String {
    told(view, false).0
}

fn json(view: &View) -> Value {
    told(view, false).1
}

fn amiss(view: &View) -> Option<String> {
    told(view, false).2
}

#[test]
fn the_status_is_a_table() {
    assert_golden("status.txt", &text(&view()));
    assert_golden("status.json", &format!("{:#}\n", json(&view())));
    assert_eq!(amiss(&view()), None);
}

#[test]
fn an_agent_that_waits_says_for_what() {
    let waiting = View::default();
    assert_golden("waiting.txt", &text(&waiting));
    let why = "heddle-node on node-1 is waiting: not every Node is known yet, and nothing is written before";
    assert_eq!(amiss(&waiting).as_deref(), Some(why));
}

#[test]
fn an_agent_that_fails_says_at_what() {
    let refused = |number: u8| format!("route to 10.244.{number}.0/24: no such device");
    let failing = |failures: Vec<String>| View { standing: Standing::Failing, failures, ..view() };
    let one = format!("heddle-node on node-1 is failing: {}; it is tried again", refused(2));
    assert_eq!(amiss(&failing(vec![refused(2)])), Some(one));
    let two = format!("heddle-node on node-1 is failing: {} (and 1 more); it is tried again", refused(2));
    assert_eq!(amiss(&failing(vec![refused(2), refused(4)])), Some(two));
    let text = text(&failing(vec![refused(2), refused(4)]));
    let lines = format!("failures    2\n  {}\n  {}\nlast error", refused(2), refused(4));
    assert!(text.contains(&lines), "{text}");
}

#[test]
fn an_agent_that_is_long_at_one_step_is_at_work_and_then_stuck() {
    let (process, view, links) = (process(), view(), links());
    let after = |seconds| {
        let busy = Some(Duration::from_secs(seconds));
        Status { process: &process, view: &view, links: &links, busy, now: at(3_600) }
    };
    assert_eq!(after(0).text(false), text(&view));
    assert!(after(7).text(false).contains("state       whole\n"));
    assert!(after(7).text(false).contains("at work     for 7 s at one step\n"));
    assert!(after(360).text(false).contains("state       stuck: it has been at one step for 360 s"));
    let why = "heddle-node on node-1 is stuck: it has been at one step for 360 s, and /livez fails";
    assert_eq!((after(7).amiss(), after(360).amiss().as_deref()), (None, Some(why)));
}

#[test]
fn of_many_nodes_those_that_are_not_well_come_first_and_all_on_request() {
    let mut many = view();
    many.peers = (2..=200).map(|number| peer(number, number % 100 != 0)).collect();
    many.problems = [100, 200].map(|number| (lost(number), at(0))).into();
    assert_golden("many.txt", &text(&many));
    let all = told(&many, true).0;
    assert!(all.lines().count() > 199 && !all.contains(" more:"), "{all}");
    many.problems = (2..=200).map(|number| (lost(number), at(0))).collect();
    let text = text(&many);
    assert!(text.lines().count() < 2 * MOST + 30, "{text}");
    assert!(text.contains("  ... and 179 more: --all shows them\nfailures"), "{text}");
    let json = json(&many);
    assert_eq!(json["peers"].as_array().map(Vec::len), Some(199));
    assert_eq!(json["problems"].as_array().map(Vec::len), Some(199));
}

#[test]
fn a_link_that_is_gone_has_its_number_and_nothing_is_known_of_its_mtu() {
    let (view, links) = (view(), Links::default());
    let process = process();
    let status = Status { process: &process, view: &view, links: &links, busy: None, now: at(-60) };
    assert!(status.text(false).contains("node-2  10.244.2.0/24  -     direct via 192.168.0.2 dev #2\n"));
    assert!(status.text(false).contains("(0 s ago)"), "a clock that was set back");
}
