//! What it tells who asks: probes, and the command line.

use crate::status::told;
use crate::{Outcomes, Stage, comes_to, ip, towards};
use heddle_tests::lab::{Lab, Node, Underlay};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::process::Invocation;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;

/// What a node's port answers to a request for a path.
pub(crate) fn fetch(node: &Node, port: u16, path: &str) -> Result<String, String> {
    let ask = || -> io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let asked = node.namespace().enter(ask).map_err(|error| error.to_string())?;
    asked.map_err(|error| error.to_string())
}

/// The first line of that.
fn probe(node: &Node, port: u16, path: &str) -> Result<String, String> {
    Ok(fetch(node, port, path)?.lines().next().unwrap_or_default().to_owned())
}

/// Waits until a node's metrics have all these lines.
fn counts(node: &Node, port: u16, lines: &[&str]) -> Outcomes {
    eventually(&format!("metrics with {lines:?}"), PATIENCE, || {
        let answer = fetch(node, port, "/metrics")?;
        if lines.iter().all(|line| answer.lines().any(|one| one == *line)) { Ok(()) } else { Err(answer) }
    })?;
    Ok(())
}

/// Waits until `/healthz`, `/readyz` and `/livez` answer so.
fn come_to(node: &Node, wanted: [&str; 3]) -> Outcomes {
    eventually(&format!("answers {wanted:?}"), PATIENCE, || {
        let ask = |path| probe(node, 10270, path).map(|line| line.replace("HTTP/1.1 ", ""));
        let answers = [ask("/healthz")?, ask("/readyz")?, ask("/livez")?];
        if answers == wanted { Ok(()) } else { Err(format!("{answers:?}")) }
    })?;
    Ok(())
}

#[test]
fn probes_hear_whether_the_kernel_has_what_was_planned() -> Outcomes {
    let stage = Stage::new(&["node-1", "node-2"])?;
    let (one, two) = (stage.node("node-1")?, stage.node("node-2")?);
    // A place that is taken is reported, and no failure.
    ip(one, "route add 10.244.2.0/24 via 192.168.0.1 metric 4096")?;
    let agent = stage.agent("node-1", &["--healthz-bind-address", "127.0.0.1:10270"])?;
    come_to(one, ["200 OK"; 3])?;
    assert_eq!(probe(one, 10270, "/else")?, "HTTP/1.1 404 Not Found");
    agent.prints("another program's route to 10.244.2.0/24 (metric 4096) goes before ours")?;
    comes_to(one, &towards(&[two])[1..])
}

#[test]
fn metrics_count_what_is_believed_and_a_flush_that_is_repaired_also_at_the_port_of_the_probes() -> Outcomes {
    let stage = Stage::new(&["node-1", "node-2"])?;
    let (one, two) = (stage.node("node-1")?, stage.node("node-2")?);
    let mut agent = stage.agent("node-1", &["--mode", "routes"])?;
    let believed = [
        "heddle_node_whole 1.0",
        "heddle_node_nodes 2.0",
        "heddle_node_mtu_bytes 1500.0",
        "heddle_node_paths{kind=\"direct\",ip_family=\"IPv4\"} 1.0",
        "heddle_node_paths{kind=\"none\",ip_family=\"IPv6\"} 0.0",
        "heddle_node_drift_repairs_total 0",
    ];
    counts(one, 10271, &believed)?;
    assert_eq!(probe(one, 10271, "/healthz")?, "HTTP/1.1 404 Not Found");
    ip(one, "-4 route flush proto 110")?;
    counts(one, 10271, &["heddle_node_drift_repairs_total 1", "heddle_node_whole 1.0"])?;
    comes_to(one, &towards(&[two]))?;
    agent.kill()?;

    let port = "127.0.0.1:10270";
    let flags = ["--mode", "routes", "--healthz-bind-address", port, "--metrics-bind-address", port];
    let _agent = stage.agent("node-1", &flags)?;
    counts(one, 10270, &believed)?;
    come_to(one, ["200 OK"; 3])?;
    assert!(fetch(one, 10271, "/metrics").is_err(), "nobody listens there");
    ip(one, "rule add pref 10 to 192.168.0.12 prohibit")?;
    ip(one, "-4 route flush proto 110")?;
    counts(one, 10270, &["heddle_node_whole 0.0", "heddle_node_failures_total{kind=\"table\"} 0"])?;
    let refused = fetch(one, 10270, "/metrics")?;
    assert!(!refused.contains("heddle_node_failures_total{kind=\"route\"} 0\n"), "{refused}");
    Ok(())
}

const BAD: &str = "503 Service Unavailable";

/// A restart would not help against what the kernel refuses.
#[test]
fn an_agent_that_is_refused_is_live_and_ready_once_it_was_not() -> Outcomes {
    let stage = Stage::new(&["node-1", "node-2"])?;
    let one = stage.node("node-1")?;
    let refuse = || ip(one, "rule add pref 10 to 192.168.0.12 prohibit");
    refuse()?;
    let _agent = stage.agent("node-1", &["--mode", "routes", "--healthz-bind-address", "127.0.0.1:10270"])?;
    come_to(one, [BAD, BAD, "200 OK"])?;
    ip(one, "rule del pref 10")?;
    come_to(one, ["200 OK"; 3])?;
    refuse()?;
    ip(one, "-4 route flush proto 110")?;
    come_to(one, [BAD, "200 OK", "200 OK"])
}

/// A file that nobody writes to stands for a kernel that does not answer.
#[test]
fn an_agent_that_the_kernel_holds_up_answers_all_the_same_and_goes_on_when_it_is_let() -> Outcomes {
    let stage = Stage::new(&["node-1", "node-2"])?;
    let one = stage.node("node-1")?;
    let settings = one.directory().join("sys");
    let setting = settings.join("net/ipv4/ip_forward");
    fs::create_dir_all(settings.join("net/ipv4"))?;
    mknodat(CWD, &setting, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    let flags = ["--sysctl-dir", &settings.to_string_lossy(), "--healthz-bind-address", "127.0.0.1:10270"];
    let _agent = stage.agent("node-1", &flags)?;
    // It is at it for so short a time that it is not taken to hang.
    told(one, &["state       waiting: ", "at work     for ", " s at one step"])?;
    come_to(one, [BAD, BAD, "200 OK"])?;
    let mut pipe = fs::File::options().write(true).open(&setting)?;
    fs::write(settings.join("new"), "1\n")?;
    fs::rename(settings.join("new"), &setting)?;
    pipe.write_all(b"1\n")?;
    drop(pipe);
    come_to(one, ["200 OK"; 3])?;
    assert!(!told(one, &["state       whole"])?.stdout.contains("at work"));
    Ok(())
}

#[test]
fn the_command_line_says_what_it_is_and_refuses_what_it_cannot() -> Outcomes {
    let lab = Lab::on(Underlay::flat(&["node-1"]))?;
    let run = |flag: &[&str]| Invocation::of("heddle-node")?.args(flag).run(lab.nodes()[0].namespace());
    assert!(run(&["--version"])?.stdout.starts_with("heddle-node "));
    assert!(run(&["--help"])?.stdout.contains("--non-masquerade-cidrs"));
    let refused = run(&["--mode", "ipip"])?;
    assert!(!refused.status.success());
    assert!(refused.stderr.contains("the modes are auto, routes and vxlan"), "{}", refused.stderr);
    Ok(())
}
