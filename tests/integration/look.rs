//! Questions to the real `heddle-proxy` on a node of the lab.

use heddle_tests::lab::{Lab, Node};
use heddle_tests::objects::{service, slice};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::process::{Invocation, Output};
use heddle_tests::proxy::{Manifests, Proxy, socket};
use rustix::process::Uid;
use rustix::thread::set_thread_res_uid;
use serde_json::Value;
use std::error::Error;
use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

type Outcomes = Result<(), Box<dyn Error>>;

/// A user that every system has, and that owns nothing.
const NOBODY: u32 = 65_534;
const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10));
const ENDPOINTS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 244, 1, 11)), IpAddr::V4(Ipv4Addr::new(10, 244, 2, 11))];

/// A node with a proxy that knows one Service.
struct Stage {
    proxy: Proxy,
    manifests: Manifests,
    lab: Lab,
}

impl Stage {
    fn new() -> Result<Self, Box<dyn Error>> {
        Self::on(Lab::new(&["node-1"])?)
    }

    fn on(lab: Lab) -> Result<Self, Box<dyn Error>> {
        let node = lab.node("node-1")?;
        let manifests = Manifests::of(node)?;
        manifests.put("service.json", &service("web", &[VIP], 80, 8080).to_string())?;
        manifests.put("endpoints.json", &slice("web", "node-1", &ENDPOINTS, 8080).to_string())?;
        let proxy = Proxy::start(node, &manifests)?;
        proxy.ready(node)?;
        Ok(Self { proxy, manifests, lab })
    }

    fn node(&self) -> Result<&Node, Box<dyn Error>> {
        Ok(self.lab.node("node-1")?)
    }

    /// What the program says to these arguments.
    fn run(&self, arguments: &[&str]) -> Result<Output, Box<dyn Error>> {
        let socket = socket(self.node()?);
        let all = arguments.iter().copied().chain(["--status-socket", &socket]);
        Ok(Invocation::of("heddle-proxy")?.args(all).run(self.node()?.namespace())?)
    }

    /// The same, where it must succeed.
    fn ask(&self, arguments: &[&str]) -> Result<String, Box<dyn Error>> {
        let output = self.run(arguments)?;
        assert!(output.status.success(), "{output:?}");
        Ok(output.stdout)
    }
}

#[test]
fn a_running_proxy_answers_what_it_does_believes_and_would_do() -> Outcomes {
    let stage = Stage::new()?;
    let status = stage.ask(&["status"])?;
    for part in [
        "on node-1, mode nftables",
        "state      in sync",
        "health     healthy, ready, the node is not eligible",
        "IPv6       healthy, written ",
        "1 Services, 1 EndpointSlices with 2 endpoints",
        "serves     1 frontends",
        "problems   none",
    ] {
        assert!(status.contains(part), "{part} in {status}");
    }
    let traced = stage.ask(&["trace", "node", "default/web:80"])?;
    for part in [
        "cluster-ip of Service default/web",
        "1/2  10.244.1.11:8080",
        "1/2  10.244.2.11:8080",
        "vmap @services",
    ] {
        assert!(traced.contains(part), "{part} in {traced}");
    }
    let json: Value =
        serde_json::from_str(&stage.ask(&["dump", "-o", "json", "--part", "frontends,kernel"])?)?;
    assert_eq!(json["frontends"][0]["service"], "default/web");
    assert_eq!(json["kernel"][0]["difference"], Value::Array(Vec::new()));
    assert_eq!(json["kernel"][0]["table"]["name"], "heddle-proxy");
    Ok(())
}

#[test]
fn a_running_proxy_says_what_sockets_are_told_and_how_much_that_takes() -> Outcomes {
    let stage = Stage::on(Lab::with_sockets(&["node-1"])?)?;
    stage.proxy.serves_sockets()?;
    let cgroup = stage.node()?.namespace().cgroup().ok_or("no cgroup")?.path().display().to_string();
    let status = stage.ask(&["status"])?;
    // One Service, and those of the try in both families and protocols.
    let served = format!(
        "sockets    those of {cgroup} are served, 5 frontends\npods       connections between them are "
    );
    for part in ["on node-1, mode ebpf", &served, "\nmaps       5 rows, 6 slots, "] {
        assert!(status.contains(part), "{part} in {status}");
    }
    let json: Value = serde_json::from_str(&stage.ask(&["status", "-o", "json"])?)?;
    let told = &json["sockets"];
    assert_eq!(
        (&told["state"], &told["takeovers"], &told["failures"]),
        (&"serving".into(), &1.into(), &0.into())
    );
    let bytes = told["bytes"].as_u64().ok_or("no bytes")?;
    assert!((100_000..10_000_000).contains(&bytes), "{bytes}");
    let dumped = stage.ask(&["dump", "--part", "sockets"])?;
    let line =
        dumped.lines().position(|line| line.starts_with("10.96.0.10:80/tcp row ")).ok_or(dumped.clone())?;
    let slots: Vec<_> = dumped.lines().skip(line + 1).take(2).collect();
    assert!(slots[0].ends_with(" 10.244.1.11:8080") && slots[1].ends_with(" 10.244.2.11:8080"), "{dumped}");
    let traced = stage.ask(&["trace", "node", "default/web:80"])?;
    for part in [
        "\nsocket    led to one of 2 endpoints when it connects; ",
        "\n  1/2  10.244.2.11:8080",
        "vmap @services",
    ] {
        assert!(traced.contains(part), "{part} in {traced}");
    }
    let traced = stage.ask(&["trace", "outside", "default/web:80"])?;
    assert!(!traced.contains("\nsocket "), "{traced}");
    Ok(())
}

#[test]
fn the_status_counts_what_others_did_to_our_table() -> Outcomes {
    let stage = Stage::new()?;
    assert!(stage.ask(&["status"])?.contains("drift      none"));
    stage.node()?.nft(["flush", "map", "ip", "heddle-proxy", "services"])?;
    eventually("the repair", PATIENCE, || {
        let status = stage.ask(&["status"]).map_err(|error| error.to_string())?;
        if status.contains("drift      undone 1 times") { Ok(()) } else { Err(status) }
    })?;
    Ok(())
}

#[test]
fn only_root_may_open_the_socket_and_a_stale_one_is_replaced() -> Outcomes {
    let mut stage = Stage::new()?;
    let path = socket(stage.node()?);
    let mode = |path: &Path| path.metadata().map(|found| found.permissions().mode() & 0o777);
    stage.ask(&["status"])?;
    assert_eq!(mode(Path::new(&path))?, 0o600);
    assert_eq!(mode(Path::new(&path).parent().ok_or("a folder")?)?, 0o700);
    stage.proxy.process().kill()?;
    let output = stage.run(&["status"])?;
    assert!(!output.status.success());
    assert!(output.stderr.starts_with(&format!("error: no heddle-proxy answers at {path}")), "{output:?}");
    assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
    stage.proxy = Proxy::start(stage.lab.node("node-1")?, &stage.manifests)?;
    eventually("an answer of the next process", PATIENCE, || {
        let output = stage.run(&["status"]).map_err(|error| error.to_string())?;
        if output.status.success() { Ok(()) } else { Err(output.stderr) }
    })?;
    Ok(())
}

/// What a user who is not root gets from the socket.
fn asked_by_nobody(path: &str) -> io::Result<String> {
    // The kernel takes the rights of the thread that connects.
    let nobody = Uid::from_raw(NOBODY);
    set_thread_res_uid(nobody, nobody, nobody)?;
    let mut stream = UnixStream::connect(path)?;
    stream.write_all(b"{\"version\":\"0\"}\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn a_user_who_is_not_root_is_refused_by_the_file_and_where_that_was_opened_by_the_process() -> Outcomes {
    let stage = Stage::new()?;
    stage.ask(&["status"])?;
    let path = socket(stage.node()?);
    let ask = || {
        let path = path.clone();
        thread::spawn(move || asked_by_nobody(&path)).join().map_err(|_| "the thread panicked")
    };
    assert_eq!(ask()?.map_err(|error| error.kind()), Err(io::ErrorKind::PermissionDenied));
    fs::set_permissions(Path::new(&path).parent().ok_or("a folder")?, Permissions::from_mode(0o755))?;
    assert_eq!(ask()?.map_err(|error| error.kind()), Err(io::ErrorKind::PermissionDenied));
    fs::set_permissions(&path, Permissions::from_mode(0o666))?;
    assert_eq!(ask()??, "{\"Err\":\"only root may ask\"}\n");
    Ok(())
}

#[test]
fn without_a_process_the_answers_come_from_manifests() -> Outcomes {
    let lab = Lab::new(&["node-1"])?;
    let node = lab.node("node-1")?;
    let manifests = Manifests::of(node)?;
    manifests.put("service.json", &service("web", &[VIP], 80, 8080).to_string())?;
    manifests.put("endpoints.json", &slice("web", "node-1", &ENDPOINTS, 8080).to_string())?;
    let folder = manifests.folder();
    let run = |arguments: &[&str]| -> Result<Output, Box<dyn Error>> {
        let flags =
            ["--manifests", &folder, "--hostname-override", "node-1", "--cluster-cidr", "10.244.0.0/16"];
        let all = arguments.iter().copied().chain(flags);
        Ok(Invocation::of("heddle-proxy")?.args(all).run(node.namespace())?)
    };
    let traced = run(&["trace", "outside", "10.96.0.10:80"])?;
    assert!(traced.stdout.contains("source becomes the node's address"), "{traced:?}");
    let dumped = run(&["dump", "--part", "kernel"])?;
    assert!(dumped.stdout.contains("# table ip heddle-proxy: + the whole table is missing"), "{dumped:?}");
    let refused = run(&["trace", "pods", "10.96.0.10:80"])?;
    assert_eq!(refused.stderr, "error: \"pods\" is not a source: write an address, pod, node or outside\n");
    Ok(())
}
