//! Kernels that lack something: which families are routed, and what is said of the others.

use heddle_netlink::Errno;
use heddle_netlink::nft::{End, Field, Sense, Statement, TableFamily};
use heddle_proxy::agent::{Agent, Event};
use heddle_proxy::dataplane::Dataplane;
use heddle_proxy::frontends::{Frontends, IpFamily};
use heddle_proxy::model::{Change, Kind};
use heddle_proxy::nft::probe::{has_ipv6, probe};
use heddle_proxy::nft::{Abilities, FakeKernel, Nft, Settings, Unable};
use std::error::Error;
use std::fs;

fn lacking(lacks: Vec<Statement>) -> FakeKernel {
    FakeKernel { lacks, ..FakeKernel::default() }
}

#[test]
fn a_kernel_that_has_everything_is_left_as_it_was() {
    let mut kernel = FakeKernel::default();
    let abilities = probe(&mut kernel, true);
    assert_eq!(abilities, Abilities { able: TableFamily::ALL.into(), unable: vec![] });
    assert!(kernel.tables.is_empty() && kernel.taken.is_empty());
}

#[test]
fn every_option_that_a_kernel_lacks_is_named() {
    let random = Statement::InSet(vec![Field::Random(2)], "numbers".into());
    let local = Statement::Local(End::Destination, Sense::Is);
    let mut kernel = lacking(vec![Statement::SetLabel(127), Statement::Masquerade, random, local]);
    let abilities = probe(&mut kernel, true);
    assert_eq!(abilities.able, []);
    let said: Vec<String> = abilities.unable.iter().map(ToString::to_string).collect();
    let labels = "CONFIG_NF_CONNTRACK_LABELS";
    let rest = "CONFIG_NFT_NUMGEN and CONFIG_NFT_MASQ";
    assert_eq!(
        said,
        [
            format!("for IPv4 the kernel lacks {labels} and CONFIG_NFT_FIB_IPV4 and {rest}"),
            format!("for IPv6 the kernel lacks {labels} and CONFIG_NFT_FIB_IPV6 and {rest}"),
        ]
    );
    assert!(kernel.tables.is_empty() && kernel.taken.is_empty());
}

/// kp:C18
#[test]
fn without_ipv6_the_other_family_is_routed_alone_and_nothing_waits_for_it() {
    let mut kernel = FakeKernel::default();
    let Abilities { able, unable } = probe(&mut kernel, false);
    assert_eq!(unable, [Unable { family: IpFamily::V6, lacks: vec![] }]);
    assert_eq!(able, [TableFamily::Ip]);
    let mut dataplane = Nft::of_families(kernel, &Settings::default(), &able);
    let synced = dataplane.sync(&Frontends::new("node-1"));
    assert_eq!(synced.written, [IpFamily::V6, IpFamily::V4], "nothing is owed for it");
    let mut agent = Agent::new("node-1", dataplane);
    for kind in [Kind::Service, Kind::Slice] {
        agent.take(Event::Change(Change::Complete(kind)));
    }
    assert_eq!(agent.sync(), None);
    assert_eq!(agent.dataplane().kernel().tables.keys().collect::<Vec<_>>(), [&TableFamily::Ip]);
}

/// The first write says what is wrong, and is tried again.
#[test]
fn an_answer_of_the_moment_says_nothing_of_what_a_kernel_lacks() {
    for errno in [Errno::NOMEM, Errno::BUSY, Errno::PERM] {
        let mut kernel = FakeKernel { refuse: vec![errno; 2], ..FakeKernel::default() };
        assert_eq!(probe(&mut kernel, true).able, TableFamily::ALL);
        assert_eq!(kernel.refuse, []);
    }
}

#[test]
fn ipv6_is_there_when_its_files_are_and_it_is_not_switched_off() -> Result<(), Box<dyn Error>> {
    let proc = tempfile::tempdir()?;
    let (net, conf) = (proc.path().join("net"), proc.path().join("sys/net/ipv6/conf/all"));
    fs::create_dir_all(&net)?;
    assert!(!has_ipv6(proc.path()), "the kernel was built or started without");
    fs::write(net.join("if_inet6"), "")?;
    assert!(has_ipv6(proc.path()), "nobody may say whether it is switched off");
    fs::create_dir_all(&conf)?;
    for (value, there) in [("0\n", true), ("1\n", false)] {
        fs::write(conf.join("disable_ipv6"), value)?;
        assert_eq!(has_ipv6(proc.path()), there);
    }
    Ok(())
}
