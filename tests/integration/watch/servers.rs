//! Several servers of one cluster: one that says nothing is left for another.

use super::{Cluster, Heard, Outcomes, Source};
use heddle_proxy::model::Change;
use heddle_proxy::watch::Limits;
use heddle_tests::process::Invocation;
use std::net::TcpListener;
use std::time::Duration;

/// Short enough for a test to wait for; an answer takes a millisecond.
const SHORT: Limits = Limits {
    connect: Duration::from_secs(1),
    answer: Duration::from_secs(2),
    silence: Duration::from_millis(500),
};

#[test]
fn a_server_that_takes_connections_and_says_nothing_is_left_for_another() -> Outcomes {
    let cluster = Cluster::new("watch-mute")?;
    cluster.service("a", "10.96.0.1")?;
    let mute = cluster.namespace.enter(|| TcpListener::bind("127.0.0.1:0"))??;
    let masters = format!("https://{},{}", mute.local_addr()?, cluster.server.url());
    let source = Source::start_with(&cluster, masters, SHORT)?;
    source.comes_to(&["a 10.96.0.1"])?;
    source.stop()
}

#[test]
fn a_server_that_stalls_from_the_start_is_left_for_another() -> Outcomes {
    let cluster = Cluster::new("watch-hang")?;
    cluster.service("a", "10.96.0.1")?;
    let second = cluster.second_server()?;
    cluster.server.stall();
    let masters = format!("{},{}", cluster.server.url(), second.url());
    let source = Source::start_with(&cluster, masters, SHORT)?;
    source.comes_to(&["a 10.96.0.1"])?;
    source.stop()
}

/// The packets of a server that lost its network vanish; nothing says that the connection is over.
#[test]
fn a_watch_whose_server_fell_silent_goes_on_at_another_where_it_stopped() -> Outcomes {
    let cluster = Cluster::new("watch-hole")?;
    cluster.service("a", "10.96.0.1")?;
    cluster.service("b", "10.96.0.2")?;
    let second = cluster.second_server()?;
    let masters = format!("{},{}", cluster.server.url(), second.url());
    let source = Source::start_with(&cluster, masters, SHORT)?;
    source.comes_to(&["a 10.96.0.1", "b 10.96.0.2"])?;
    source.rests()?;
    let url = cluster.server.url();
    let port = url.rsplit(':').next().ok_or("no port")?;
    let hole = format!(
        "table inet hole {{ chain input {{ type filter hook input priority 0\ntcp dport {port} drop\ntcp sport {port} drop\n}}\n}}\n"
    );
    let dug = Invocation::foreign("nft").args(["-f", "-"]).input(hole).run(&cluster.namespace)?;
    assert!(dug.status.success(), "{dug:?}");
    cluster.delete_service("a")?;
    cluster.service("c", "10.96.0.3")?;
    source.comes_to(&["b 10.96.0.2", "c 10.96.0.3"])?;
    let changes = source.with(Heard::take);
    assert!(!changes.iter().any(|change| matches!(change, Change::Complete(_))), "listed again: {changes:?}");
    source.stop()
}
