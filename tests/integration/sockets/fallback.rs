//! Where sockets cannot be served, packets are, and one sentence says why and what to do.

use super::{Outcomes, Stage, Start, WEB};
use heddle_tests::process::Invocation;
use rustix::thread::CapabilitySet;
use std::error::Error;

/// How the sentence begins.
const PACKETS: &str = "Services are served by packets alone (nftables): ";
const SOCKETS: &str = "Services are served at sockets";

impl Stage {
    /// What was said, once, of packets that are served alone.
    fn says_why(&self) -> Result<String, Box<dyn Error>> {
        self.proxy.logs(PACKETS)?;
        assert!(self.asks(self.client.namespace(), WEB)?.endpoint().is_some());
        // A try makes maps before it fails.
        self.lets_sockets_go()?;
        let log = self.proxy.log();
        let said: Vec<&str> = log.split(PACKETS).skip(1).filter_map(|rest| rest.lines().next()).collect();
        assert_eq!(said.len(), 1, "{log}");
        assert!(!log.contains("ERROR"), "{log}");
        Ok(said[0].to_owned())
    }

    fn set_loopback(&self, state: &str) -> Outcomes {
        let set = Invocation::foreign("ip").args(["link", "set", "lo", state]);
        let done = set.run(self.node()?.namespace())?;
        assert!(done.status.success(), "{done:?}");
        Ok(())
    }
}

#[test]
fn without_a_bpf_file_system_packets_are_served_and_the_remedy_is_named() -> Outcomes {
    let stage = Stage::started(|start| Start { bpf: "/proc/self".into(), ..start })?;
    assert_eq!(
        stage.says_why()?,
        "/proc/self is no BPF file system: mount -t bpf bpf /proc/self on the node, or name another with --bpf-root"
    );
    Ok(())
}

#[test]
fn a_folder_that_is_no_cgroup_is_named_and_packets_are_served() -> Outcomes {
    let stage = Stage::started(|start| Start { cgroup: "/proc".into(), ..start })?;
    assert_eq!(
        stage.says_why()?,
        "/proc is no cgroup v2: name a folder of the node's cgroup v2 hierarchy with --cgroup-root"
    );
    Ok(())
}

#[test]
fn a_process_without_the_rights_names_them_and_packets_are_served() -> Outcomes {
    for (right, expected) in [
        (
            CapabilitySet::BPF,
            "load the maps: Operation not permitted (os error 1): give heddle-proxy CAP_BPF, or run it as root",
        ),
        (
            CapabilitySet::PERFMON,
            "load program connect4: Permission denied (os error 13): give heddle-proxy CAP_PERFMON, or run it as root",
        ),
    ] {
        let without = CapabilitySet::SYS_ADMIN | right;
        let stage = Stage::started(|start| Start { without, ..start })?;
        assert_eq!(stage.says_why()?, expected);
    }
    Ok(())
}

/// Who may not load programs may well leave those of an earlier process behind, with maps that nobody writes any more.
#[test]
fn a_process_that_cannot_serve_sockets_lets_those_go_that_an_earlier_one_served() -> Outcomes {
    let mut stage = Stage::new()?;
    let mut held = stage.hold(20)?;
    let busy = stage.steady()?;
    let without = CapabilitySet::SYS_ADMIN | CapabilitySet::BPF;
    let start = Start { without, ..stage.start.clone() };
    stage.restart(&start)?;
    stage.lets_sockets_go()?;
    stage.says_why()?;
    held.goes_on()?;
    busy.ends_well()
}

/// ebpf:6.6: that programs are attached is not enough; what a real socket reaches decides.
#[test]
fn sockets_that_cannot_be_tried_out_are_let_go_until_they_can() -> Outcomes {
    let stage = Stage::new()?;
    stage.set_loopback("down")?;
    stage.lets_sockets_go()?;
    let why = stage.says_why()?;
    assert!(why.starts_with("reach a Service from a socket (IPv4, TCP): "), "{why}");
    stage.set_loopback("up")?;
    super::said_again(&stage.proxy, SOCKETS)
}
