//! Others on the node: what they flush or delete, and what they have laid before.

use crate::{Outcomes, Stage, comes_to, ip, routes, setting, tables, towards};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::process::Invocation;
use rustix::process::Signal;

#[test]
fn what_others_flush_or_delete_is_whole_again() -> Outcomes {
    let stage = Stage::new(&["node-1", "node-2"])?;
    let (one, two) = (stage.node("node-1")?, stage.node("node-2")?);
    let _agent = stage.agent("node-1", &[])?;
    let wanted = towards(&[two]);
    comes_to(one, &wanted)?;
    let table = tables(one)?;
    assert!(table.contains("masquerade fully-random"), "{table}");
    ip(one, "-4 route flush proto 110")?;
    comes_to(one, &wanted)?;
    ip(one, "-6 route flush proto 110")?;
    comes_to(one, &wanted)?;
    ip(one, "route add 10.244.99.0/24 via 192.168.0.1 proto 110")?;
    comes_to(one, &wanted)?;
    for damage in ["delete table ip heddle-node", "flush chain ip6 heddle-node postrouting", "flush ruleset"]
    {
        let done = one.nft(damage.split(' '))?;
        assert!(done.status.success(), "{}", done.stderr);
        eventually(&format!("the tables after {damage:?}"), PATIENCE, || {
            let now = tables(one)?;
            if now == table { Ok(()) } else { Err(now) }
        })?;
    }
    // The kernel takes the routes away with their link, and says nothing of those of IPv4.
    ip(one, "link set eth0 down")?;
    comes_to(one, &[])?;
    ip(one, "link set eth0 up")?;
    eventually("the routes of IPv4", PATIENCE, || {
        let routes = routes(one)?;
        if routes.contains(&wanted[0]) { Ok(()) } else { Err(format!("{routes:?}")) }
    })?;
    one.namespace().sysctl("ipv4/ip_forward", "0")?;
    eventually("forwarding", PATIENCE, || {
        let now = setting(one, "ipv4/ip_forward").map_err(|error| error.to_string())?;
        if now == "1" { Ok(()) } else { Err(now) }
    })?;
    Ok(())
}

#[test]
fn another_programs_route_is_reported_and_left_alone_and_ours_takes_over_when_it_goes() -> Outcomes {
    let stage = Stage::new(&["node-1", "node-2"])?;
    let (one, two) = (stage.node("node-1")?, stage.node("node-2")?);
    ip(one, "route add 10.244.2.0/24 via 192.168.0.1")?;
    let mut agent = stage.agent("node-1", &[])?;
    agent.prints("another program's route to 10.244.2.0/24 (metric 0) goes before ours to Node node-2")?;
    comes_to(one, &towards(&[two]))?;
    assert!(ip(one, "route get 10.244.2.9")?.contains("via 192.168.0.1 "));
    ip(one, "route del 10.244.2.0/24 via 192.168.0.1")?;
    assert!(ip(one, "route get 10.244.2.9")?.contains("via 192.168.0.12 "));
    agent.prints("no longer so: another program's route to 10.244.2.0/24")?;

    ip(one, "route add 10.244.2.0/24 via 192.168.0.1")?;
    agent.signal(Signal::TERM)?;
    assert!(agent.wait(PATIENCE)?.success());
    assert_eq!(routes(one)?, towards(&[two]), "a stop leaves all standing");
    tables(one)?;
    let cleaned = Invocation::of("heddle-node")?.args(["--cleanup"]).run(one.namespace())?;
    assert!(cleaned.status.success(), "{}", cleaned.stderr);
    assert_eq!(routes(one)?, [""; 0]);
    assert!(tables(one).is_err());
    assert!(ip(one, "route show 10.244.2.0/24")?.contains("via 192.168.0.1 "), "it is not ours");
    Ok(())
}
