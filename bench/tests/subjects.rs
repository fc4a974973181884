//! Subjects are what they are called: their nodes track connections, or do not.

use heddle_bench::Failure;
use heddle_bench::cluster::Size;
use heddle_bench::interrupt::Interrupt;
use heddle_bench::run::Plan;
use heddle_bench::subjects::stage::{Nodes, Setting};
use heddle_bench::subjects::{Stage, Subject};
use heddle_bench::workloads::Workload;

const USUAL: Setting<'_> = Setting { nodes: Nodes::One, kube_proxy: None, handicap: 0 };

/// How many connections the node of a subject still tracks after some.
fn tracked(subject: Subject) -> Result<u32, Failure> {
    let size = subject.has_services().then_some(Size::from((3, 2)));
    let stage = Stage::build(subject.host(), size, USUAL, &Interrupt::default())?;
    stage.forget()?;
    let effort = Plan::smallest().effort;
    for workload in [Workload::Connections, Workload::AnyConnections, Workload::UdpRequests] {
        workload.run(&stage.way(subject), &effort, 1)?;
    }
    stage.tracked()
}

#[test]
fn a_bare_node_and_one_that_serves_sockets_alone_do_not_track_and_all_others_do() -> Result<(), Failure> {
    for subject in [Subject::Direct, Subject::Ebpf] {
        assert_eq!(tracked(subject)?, 0, "{}", subject.name());
    }
    for subject in [Subject::Tracked, Subject::Nft, Subject::EbpfTracked, Subject::DirectBesideEbpf] {
        assert!(tracked(subject)? >= 10, "{}", subject.name());
    }
    Ok(())
}

#[test]
fn a_handicap_is_rules_beside_the_subjects_that_hold_no_packet_up() -> Result<(), Failure> {
    let setting = Setting { handicap: 300, ..USUAL };
    let stage = Stage::build(Subject::Nft, Some(Size::from((3, 2))), setting, &Interrupt::default())?;
    let rules = stage.nodes()[0].nft(["list", "table", "ip", "handicap"])?.stdout;
    assert_eq!(rules.matches(" drop\n").count(), 300, "{rules}");
    let effort = Plan::smallest().effort;
    for workload in [Workload::Connections, Workload::NodePort, Workload::UdpRequests] {
        workload.run(&stage.way(Subject::Nft), &effort, 1)?;
    }
    Ok(())
}
