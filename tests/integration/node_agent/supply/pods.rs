//! Pods that a runtime makes with what is installed, and what becomes of them and of what they leave.

use super::{Host, addresses, attachment, comes_to_say, other_version};
use crate::{Outcomes, Stage, ip};
use heddle_tests::cni::{List, Runtime};
use heddle_tests::namespace::Namespace;
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::process::{Invocation, program};
use heddle_tests::traffic::{Server, Transport, attempt};
use serde_json::json;
use std::fs::{self, File};
use std::path::Path;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, SystemTime};

/// cni:#4: pods are made with what was installed, and have the largest packet of the link to the other nodes.
#[test]
fn pods_are_made_with_what_was_installed() -> Outcomes {
    let stage = Stage::new(&["node-1"])?;
    let one = stage.node("node-1")?;
    let host = Host::of(one)?;
    ip(one, "link set eth0 mtu 1400")?;
    let _agent = host.start(&stage, "node-1", &[])?;
    let list = host.list("10.244.1.0/24")?;
    let (mut runtime, pod) = (host.runtime(one), Namespace::new("pod")?);
    runtime.status(&list)?;
    let result = runtime.add(&list, &attachment("c1", &pod))?;
    assert_eq!(addresses(&result), ["10.244.1.2/24", "fd00:244:0:1::2/64"]);
    runtime.check(&list, &attachment("c1", &pod))?;
    let shown = Invocation::foreign("ip").args(["link", "show", "eth0"]).run(&pod)?.stdout;
    assert!(shown.contains(" mtu 1400 "), "{shown}");
    ip(one, "link set eth0 mtu 1300")?;
    eventually("the link's new MTU in the configuration", PATIENCE, || {
        let text = fs::read_to_string(host.place()).map_err(|error| error.to_string())?;
        if text.contains("1300") { Ok(()) } else { Err(text) }
    })?;
    Ok(runtime.del(&list, &attachment("c1", &pod))?)
}

/// cni:#25: pods that are there keep what they have, new ones get what the node has now.
#[test]
fn ranges_change_under_pods_that_run() -> Outcomes {
    let stage = Stage::new(&["node-1"])?;
    let one = stage.node("node-1")?;
    let host = Host::of(one)?;
    let _agent = host.start(&stage, "node-1", &[])?;
    let list = host.list("10.244.1.0/24")?;
    let (mut runtime, old, new) = (host.runtime(one), Namespace::new("old")?, Namespace::new("new")?);
    runtime.add(&list, &attachment("old", &old))?;
    let mut moved = one.object();
    moved["spec"] =
        json!({ "podCIDR": "10.244.77.0/24", "podCIDRs": ["10.244.77.0/24", "fd00:244:0:77::/64"] });
    stage.put(&moved)?;
    let list = host.list("10.244.77.0/24")?;
    let result = runtime.add(&list, &attachment("new", &new))?;
    assert_eq!(addresses(&result), ["10.244.77.2/24", "fd00:244:0:77::2/64"]);
    let server = Server::start(&new, "new", Transport::Tcp, 80)?;
    let outcome = attempt(&old, Transport::Tcp, "10.244.77.2:80".parse()?)?;
    assert_eq!(outcome.to_string(), "new (source 10.244.1.2)");
    drop(server);
    runtime.del(&list, &attachment("old", &old))?;
    // Whoever has the old range now is reached again.
    eventually("the bridge without the old gateway", PATIENCE, || {
        let shown = ip(one, "address show cni0")?;
        let old = ["10.244.1.1/24", "fd00:244:0:1::1/64"].map(|old| shown.contains(old));
        if old == [false; 2] && shown.contains("10.244.77.1/24") { Ok(()) } else { Err(shown) }
    })?;
    Ok(runtime.del(&list, &attachment("new", &new))?)
}

/// A file that is so old that STATUS is sure to mind.
fn make_old(path: &Path) -> Outcomes {
    let old = SystemTime::now() - Duration::from_secs(3600);
    Ok(File::options().write(true).open(path)?.set_modified(old)?)
}

/// The plugin itself says whether the node is ready, by the agent's sign of life; an agent that is gone for a while, and a
/// server that is away, are no reason.
#[test]
fn status_follows_the_agents_sign_of_life() -> Outcomes {
    let stage = Stage::new(&["node-1"])?;
    let one = stage.node("node-1")?;
    let host = Host::of(one)?;
    let alive = host.at("run/node-alive");
    let mut agent = host.start(&stage, "node-1", &[])?;
    let list = host.list("10.244.1.0/24")?;
    let runtime = host.runtime(one);
    runtime.status(&list)?;
    agent.kill()?;
    runtime.status(&list)?;
    make_old(&alive)?;
    let failure = runtime.status(&list).err().ok_or("nobody is alive")?;
    assert_eq!(failure.code(), Some(50), "{failure}");
    assert!(failure.to_string().contains("has not touched"), "{failure}");
    // The next one knows no Node yet: that its file is of this boot is enough.
    let agent = host.start_without_nodes(one)?;
    eventually("a ready node", PATIENCE, || runtime.status(&list).map_err(|failure| failure.to_string()))?;
    drop(agent);
    fs::remove_file(&alive)?;
    assert_eq!(runtime.status(&list).err().and_then(|failure| failure.code()), Some(50));
    Ok(())
}

/// cni:#8, cni:#10: runtimes that never ask for GC leak what a pod left whose DEL was lost; what lives is left alone.
#[test]
fn what_a_pod_left_that_is_gone_is_free_again() -> Outcomes {
    let stage = Stage::new(&["node-1"])?;
    let one = stage.node("node-1")?;
    let host = Host::of(one)?;
    let agent = host.start(&stage, "node-1", &["--sweep-period", "100ms"])?;
    let list = host.list("10.244.1.0/24")?;
    let mut runtime = host.runtime(one);
    let (lives, dies) = (Namespace::new("lives")?, Namespace::new("dies")?);
    runtime.add(&list, &attachment("lives", &lives).with_port(8080, 80))?;
    runtime.add(&list, &attachment("dies", &dies).with_port(8081, 80))?;
    drop(dies);
    agent.prints("addresses 10.244.1.3, fd00:244:0:1::3 of container dies interface eth0 are free again")?;
    agent.prints("host ports of pods/dies/eth0 default/dies are free again")?;
    runtime.check(&list, &attachment("lives", &lives).with_port(8080, 80))?;
    assert!(!agent.stderr().contains("container lives") && !agent.stdout().contains("container lives"));
    Ok(())
}

/// What a neighbour flushes takes the host ports of pods that run: nobody else would write them anew.
#[test]
fn host_ports_come_back_when_the_ruleset_is_flushed() -> Outcomes {
    let stage = Stage::new(&["node-1"])?;
    let one = stage.node("node-1")?;
    let host = Host::of(one)?;
    let mut agent = host.start(&stage, "node-1", &[])?;
    let list = host.list("10.244.1.0/24")?;
    let (mut runtime, pod) = (host.runtime(one), Namespace::new("pod")?);
    let attachment = attachment("c1", &pod).with_port(8080, 80);
    runtime.add(&list, &attachment)?;
    let come_back = |runtime: &Runtime| {
        let check = || runtime.check(&list, &attachment).map_err(|failure| failure.to_string());
        eventually("the pod's ports", PATIENCE, check)
    };
    for damage in [
        &["flush", "ruleset"][..],
        &["delete", "element", "ip", "heddle-hostports", "ports", "{ tcp . 8080 }"],
    ] {
        let done = one.nft(damage.iter().copied())?;
        assert!(done.status.success(), "{}", done.stderr);
        come_back(&runtime)?;
    }
    agent.kill()?;
    one.nft(["flush", "ruleset"])?;
    assert!(runtime.check(&list, &attachment).is_err());
    let _agent = host.start(&stage, "node-1", &[])?;
    come_back(&runtime)?;
    runtime.del(&list, &attachment)?;
    assert!(!one.nft(["list", "ruleset"])?.stdout.contains("8080"));
    Ok(())
}

/// No pod is made any more once the configuration is gone, and those that run can still end.
#[test]
fn a_clean_up_takes_the_configuration_at_once_and_the_program_when_no_pod_needs_it() -> Outcomes {
    let stage = Stage::new(&["node-1"])?;
    let one = stage.node("node-1")?;
    let host = Host::of(one)?;
    fs::create_dir(host.at("net.d"))?;
    fs::write(host.at("net.d/05-other.conflist"), "{}")?;
    let mut agent = host.start(&stage, "node-1", &["--cni-exclusive", "true"])?;
    let list = host.list("10.244.1.0/24")?;
    let (mut runtime, pod) = (host.runtime(one), Namespace::new("pod")?);
    runtime.add(&list, &attachment("c1", &pod))?;
    agent.kill()?;
    let flags = host.flags();
    let clean_up = || Invocation::of("heddle-node")?.args(["--cleanup"]).args(&flags).run(one.namespace());
    let done = clean_up()?;
    assert!(done.status.success(), "{}", done.stderr);
    let said = done.stdout + &done.stderr;
    assert!(said.contains("these pods still need it for their end"), "{said}");
    let are_there = || {
        ["net.d/10-heddle.conflist", "net.d/05-other.conflist", "run/node-alive", "bin/heddle-cni"]
            .map(|name| host.at(name).exists())
    };
    assert_eq!(are_there(), [false, true, false, true]);
    runtime.del(&list, &attachment("c1", &pod))?;
    assert!(clean_up()?.status.success());
    assert_eq!(are_there(), [false, true, false, false]);
    assert!(clean_up()?.status.success(), "again");
    Ok(())
}

/// A pod that comes and goes by what is installed, until it is told to stop; how often it came.
fn churn(mut runtime: Runtime, list: &List, stop: &Receiver<()>) -> usize {
    let pod = Namespace::new("churn").expect("the kernel has room for a namespace");
    let mut count = 0;
    while stop.try_recv() == Err(TryRecvError::Empty) {
        let attachment = attachment(&format!("c{count}"), &pod);
        runtime.add(list, &attachment).expect("an ADD at any time succeeds");
        runtime.del(list, &attachment).expect("a DEL at any time succeeds");
        count += 1;
    }
    count
}

/// cni:#21: each version of the agent brings its own plugin, and no pod notices.
#[test]
fn pods_come_and_go_while_the_plugin_is_upgraded() -> Outcomes {
    let stage = Stage::new(&["node-1"])?;
    let one = stage.node("node-1")?;
    let host = Host::of(one)?;
    let other = host.at("other-version");
    other_version(&other)?;
    let mut agent = host.start(&stage, "node-1", &[])?;
    let list = host.list("10.244.1.0/24")?;
    let (runtime, (done, stop)) = (host.runtime(one), channel());
    let pods = std::thread::spawn(move || churn(runtime, &list, &stop));
    for source in [&other, &program("heddle-cni")?, &other] {
        agent.kill()?;
        agent = host.start(&stage, "node-1", &["--cni-program", &source.to_string_lossy()])?;
        comes_to_say(&host.plugin(), &fs::read(source)?)?;
    }
    drop(done);
    assert!(pods.join().map_err(|_| "a pod was not made")? > 0);
    Ok(())
}
