//! What a change takes in system calls, of the thread that makes it: as many for one endpoint as for thousands of places to change.

use heddle_tests::lab::{Lab, Node};
use heddle_tests::objects::{list, service, slice};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::process::{Invocation, Process};
use heddle_tests::proxy::{Manifests, Proxy};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::error::Error;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

type Outcomes = Result<(), Box<dyn Error>>;

const TARGET: u16 = 8080;
/// So many changes, so that one that happened for another reason does not decide.
const CHANGES: u8 = 8;
/// What one may take, with all that follows from it.
const LIMIT: usize = 6;

/// A Service with this many endpoints, of which one is `changing`, at its cluster IP and as many external addresses.
fn web(endpoints: u16, addresses: u8, changing: Ipv4Addr) -> Value {
    let mut object = service("web", &[Ipv4Addr::new(10, 96, 0, 10).into()], 80, TARGET);
    let external: Vec<String> = (1..=addresses).map(|last| format!("198.51.100.{last}")).collect();
    object["spec"]["externalIPs"] = json!(external);
    object["spec"]["type"] = json!("NodePort");
    object["spec"]["ports"][0]["nodePort"] = json!(30_080);
    let others = (1..endpoints).map(|number| {
        let [high, low] = number.to_be_bytes();
        IpAddr::from([10, 245, high, low])
    });
    let all: Vec<IpAddr> = others.chain([changing.into()]).collect();
    list(&[object, slice("web", "node-1", &all, TARGET)])
}

/// The thread that makes changes.
fn agent(process: u32) -> Result<u32, Box<dyn Error>> {
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let task = task?;
        if fs::read_to_string(task.path().join("comm"))?.trim_end() == "agent" {
            return Ok(task.file_name().to_string_lossy().parse()?);
        }
    }
    Err("no thread is the agent's".into())
}

/// Writes down the system calls of a thread.
struct Tracer {
    strace: Process,
    file: PathBuf,
}

impl Tracer {
    fn of(thread: u32, node: &Node) -> Result<Self, Box<dyn Error>> {
        let file = node.directory().join("calls");
        let (thread, path) = (thread.to_string(), file.to_string_lossy().into_owned());
        let strace = Invocation::foreign("strace").args(["-qq", "-p", &thread, "-o", &path]);
        let strace = strace.start(node.namespace())?;
        eventually("strace to attach", PATIENCE, || {
            let status = fs::read_to_string(format!("/proc/{thread}/status")).map_err(|e| e.to_string())?;
            let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:")).map(str::trim);
            if tracer == Some("0") { Err(strace.stderr()) } else { Ok(()) }
        })?;
        Ok(Self { strace, file })
    }

    /// All calls that it saw, a line each.
    fn end(mut self) -> Result<Vec<String>, Box<dyn Error>> {
        self.strace.signal(Signal::INT)?;
        self.strace.wait(PATIENCE)?;
        Ok(fs::read_to_string(self.file)?.lines().map(str::to_owned).collect())
    }
}

/// The system calls of some changes of one endpoint.
fn calls(endpoints: u16, addresses: u8) -> Result<Vec<String>, Box<dyn Error>> {
    let lab = Lab::with_sockets(&["node-1"])?;
    let node = lab.node("node-1")?;
    let manifests = Manifests::of(node)?;
    let change = |number: u8| -> Outcomes {
        let changing = Ipv4Addr::new(10, 244, 3, number);
        manifests.put("web.json", &web(endpoints, addresses, changing).to_string())?;
        eventually("the new endpoint in the kernel", PATIENCE, || {
            let listed = node.nft(["list", "map", "ip", "heddle-proxy", "endpoints"]);
            let listed = listed.map_err(|error| error.to_string())?.stdout;
            let places = listed.matches(&format!("{changing} ")).count();
            if places == usize::from(addresses) + 1 { Ok(()) } else { Err(listed) }
        })?;
        Ok(())
    };
    let mut proxy = Proxy::start(node, &manifests)?;
    proxy.serves_sockets()?;
    // What the first ones bring, as chains for such a Service.
    change(1)?;
    change(2)?;
    let tracer = Tracer::of(agent(proxy.process().id())?, node)?;
    (3..3 + CHANGES).try_for_each(change)?;
    tracer.end()
}

/// ebpf:6.1: what is stored in maps takes none, and tables take one transaction and its answer.
#[test]
fn a_changed_endpoint_takes_six_system_calls_at_most_whatever_has_it() -> Outcomes {
    for (endpoints, addresses) in [(1, 0), (100, 20), (1000, 0)] {
        let calls = calls(endpoints, addresses)?;
        let of = |name: &str| calls.iter().filter(|call| call.starts_with(name)).count();
        let changes = usize::from(CHANGES);
        assert_eq!((of("sendto("), of("recvfrom(")), (changes, changes), "{calls:#?}");
        // Room for later changes is made after some.
        assert!(calls.len() <= LIMIT * changes, "{}: {calls:#?}", calls.len());
    }
    Ok(())
}
