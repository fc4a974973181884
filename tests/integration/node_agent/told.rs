//! What it tells who asks: probes, and the command line.

use crate::{Outcomes, Stage, comes_to, ip, towards};
use heddle_tests::lab::{Lab, Node, Underlay};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::process::Invocation;
use std::io::{self, Read, Write};
use std::net::TcpStream;

/// The first line of what a node's port answers to a request for a path.
fn probe(node: &Node, port: u16, path: &str) -> Result<String, String> {
    let ask = || -> io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.lines().next().unwrap_or_default().to_owned())
    };
    let asked = node.namespace().enter(ask).map_err(|error| error.to_string())?;
    asked.map_err(|error| error.to_string())
}

#[test]
fn probes_hear_whether_the_kernel_has_what_was_planned() -> Outcomes {
    let stage = Stage::new(&["node-1", "node-2"])?;
    let (one, two) = (stage.node("node-1")?, stage.node("node-2")?);
    // A place that is taken is reported, and no failure.
    ip(one, "route add 10.244.2.0/24 via 192.168.0.1 metric 4096")?;
    let agent = stage.agent("node-1", &["--healthz-bind-address", "127.0.0.1:10270"])?;
    let healthy = || {
        let line = probe(one, 10270, "/healthz")?;
        if line == "HTTP/1.1 200 OK" { Ok(()) } else { Err(line) }
    };
    eventually("a healthy agent", PATIENCE, healthy)?;
    assert_eq!(probe(one, 10270, "/else")?, "HTTP/1.1 404 Not Found");
    agent.prints("another program's route to 10.244.2.0/24 (metric 4096) goes before ours")?;
    comes_to(one, &towards(&[two])[1..])
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
