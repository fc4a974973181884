//! What `heddle-node status` says of a running agent.

use crate::{Outcomes, Stage, comes_to, ip, towards};
use heddle_tests::cluster::agent_socket;
use heddle_tests::lab::Node;
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::process::{Invocation, Output};
use serde_json::Value;
use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What the command says on a node.
fn asked(node: &Node, flags: &[&str]) -> Result<Output, Box<dyn Error>> {
    let socket = agent_socket(node);
    let all = ["status", "--status-socket", &socket].into_iter().chain(flags.iter().copied());
    Ok(Invocation::of("heddle-node")?.args(all).run(node.namespace())?)
}

/// The answer once it has all of these parts.
pub(crate) fn told(node: &Node, parts: &[&str]) -> Result<Output, Box<dyn Error>> {
    Ok(eventually(&format!("a status with {parts:?}"), PATIENCE, || {
        let output = asked(node, &[]).map_err(|error| error.to_string())?;
        let printed = format!("{}{}", output.stdout, output.stderr);
        if parts.iter().all(|part| printed.contains(part)) { Ok(output) } else { Err(printed) }
    })?)
}

#[test]
fn a_whole_agent_tells_its_ranges_and_the_way_to_every_peer() -> Outcomes {
    let stage = Stage::new(&["node-1", "node-2", "node-3"])?;
    let one = stage.node("node-1")?;
    let mut far = stage.node("node-3")?.object();
    far["status"]["addresses"] = serde_json::json!([{ "type": "InternalIP", "address": "172.16.0.1" }]);
    stage.put(&far)?;
    let _agent = stage.agent("node-1", &["--mode", "routes"])?;
    let output = told(one, &["state       whole"])?;
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let range = one.pod_ranges()[0].to_string();
    for part in [
        "on node-1, mode routes\n",
        &format!("ranges      {range}, "),
        "mtu         1500\n",
        "masquerade  yes\n",
        "forwarding  yes\n",
        "peers       2 nodes with 4 ranges: 2 direct, 2 not reached\n  NODE    RANGE",
        "  none (NoRouteToNode)\n",
        "  1500  direct via 192.168.0.12 dev eth0\n",
        "Node node-3 (172.16.0.1) is not on a link of this node",
        "last error  none\n",
    ] {
        assert!(output.stdout.contains(part), "{part} in {}", output.stdout);
    }
    let first = output.stdout.lines().skip_while(|line| !line.contains("NODE ")).nth(1).unwrap_or_default();
    assert!(first.starts_with("  node-3 "), "what is not well comes first: {}", output.stdout);
    json_is_what_the_table_says(one)
}

fn json_is_what_the_table_says(node: &Node) -> Outcomes {
    let json: Value = serde_json::from_str(&asked(node, &["--output", "json"])?.stdout)?;
    let table = asked(node, &["--all"])?.stdout;
    assert_eq!(json["state"], "whole");
    for (field, name) in [("ranges", "ranges"), ("addresses", "addresses")] {
        let list = json[field].as_array().ok_or("a list")?;
        let list: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
        assert!(table.contains(&format!("{name:<12}{}\n", list.join(", "))), "{table}");
    }
    assert!(table.contains(&format!("{:<12}{}\n", "mtu", json["mtu"])), "{table}");
    let peers = json["peers"].as_array().ok_or("a list")?;
    let paths = peers.iter().flat_map(|peer| peer["paths"].as_array().into_iter().flatten());
    let mut rows = table.lines().filter(|line| line.starts_with("  node-")).collect::<Vec<_>>();
    for path in paths {
        let way = path["path"].as_str().unwrap_or("none");
        let is_it = |row: &str| {
            row.contains(&format!(" {} ", path["range"].as_str().unwrap_or_default())) && row.contains(way)
        };
        rows.remove(rows.iter().copied().position(is_it).ok_or(format!("{path} in {table}"))?);
    }
    assert_eq!(rows, [""; 0], "{json}");
    for problem in json["problems"].as_array().ok_or("a list")? {
        let line = format!(
            "  {} ({}, ",
            problem["text"].as_str().ok_or("a text")?,
            problem["reason"].as_str().ok_or("a word")?
        );
        assert!(table.contains(&line), "{line} in {table}");
    }
    Ok(())
}

#[test]
fn an_agent_that_does_not_know_every_node_waits_and_the_command_fails_with_one_sentence() -> Outcomes {
    let stage = Stage::new(&["node-1"])?;
    let one = stage.node("node-1")?;
    // Nobody is there.
    let kubeconfig = one.directory().join("kubeconfig");
    fs::write(&kubeconfig, KUBECONFIG)?;
    let socket = agent_socket(one);
    let kubeconfig = kubeconfig.to_string_lossy();
    let flags = ["--kubeconfig", &kubeconfig, "--hostname-override", "node-1", "--status-socket", &socket];
    let _agent = one.start("heddle-node", flags)?;
    let output = told(one, &["state       waiting: ", "last sync   none yet"])?;
    assert_eq!(output.status.code(), Some(1));
    let sentence = "error: heddle-node on node-1 is waiting: not every Node is known yet, and nothing is written before\n";
    assert_eq!(output.stderr, sentence);
    Ok(())
}

const KUBECONFIG: &str = "
apiVersion: v1
kind: Config
clusters: [{name: a, cluster: {server: 'https://127.0.0.1:1'}}]
users: [{name: a, user: {token: a}}]
contexts: [{name: a, context: {cluster: a, user: a}}]
current-context: a
";

#[test]
fn an_agent_that_the_kernel_refuses_says_what_until_it_does_not_any_more() -> Outcomes {
    let stage = Stage::new(&["node-1", "node-2"])?;
    let (one, two) = (stage.node("node-1")?, stage.node("node-2")?);
    // No route may lead by way of the other node.
    ip(one, "rule add pref 10 to 192.168.0.12 prohibit")?;
    let _agent = stage.agent("node-1", &["--mode", "routes"])?;
    let output = told(one, &["state       failing: route to 10.244.2.0/24: "])?;
    assert_eq!(output.status.code(), Some(1));
    let sentence = "error: heddle-node on node-1 is failing: route to 10.244.2.0/24: ";
    assert!(output.stderr.starts_with(sentence), "{output:?}");
    assert!(
        output.stderr.ends_with("; it is tried again\n") && output.stderr.lines().count() == 1,
        "{output:?}"
    );
    ip(one, "rule del pref 10")?;
    let output = told(one, &["state       whole\n", "): route to 10.244.2.0/24: "])?;
    assert!(output.status.success(), "{output:?}");
    comes_to(one, &towards(&[two]))?;
    ip(one, "-4 route flush proto 110")?;
    told(one, &["drift       undone 1 times, last "])?;
    Ok(())
}

#[test]
fn without_an_agent_one_sentence_says_so_and_the_socket_of_one_that_was_killed_is_replaced() -> Outcomes {
    let stage = Stage::new(&["node-1"])?;
    let one = stage.node("node-1")?;
    let socket = agent_socket(one);
    let nobody = |output: Output| {
        let why = "is it running, and with this --status-socket?";
        assert_eq!(output.stderr, format!("error: no heddle-node answers at {socket}: {why}\n"));
        assert_eq!((output.stdout.as_str(), output.status.code()), ("", Some(1)));
    };
    nobody(asked(one, &[])?);
    let mut agent = stage.agent("node-1", &[])?;
    told(one, &["state       whole"])?;
    agent.kill()?;
    nobody(asked(one, &[])?);
    let _agent = stage.agent("node-1", &[])?;
    told(one, &["state       whole"])?;
    let mode = |path: &Path| path.metadata().map(|found| found.permissions().mode() & 0o777);
    let socket = Path::new(&socket);
    assert_eq!((mode(socket)?, mode(socket.parent().ok_or("a folder")?)?), (0o600, 0o700), "root's alone");
    Ok(())
}
