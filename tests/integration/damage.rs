//! What the real kernel refuses or cannot do, and what others do to our tables there.

use heddle_netlink::nft::{
    self, Cells, CommitError, Data, Heard, Listener, Op, Statement, Table, TableFamily, Transaction,
};
use heddle_netlink::{Error as NetlinkError, Family, Socket};
use heddle_proxy::agent::{Agent, Event};
use heddle_proxy::frontends::{Frontend, Place};
use heddle_proxy::model::{
    Change, Kind, ObjectName, Protocol, Service, ServicePort, Slice, SliceEndpoint, SlicePort, Triggered,
};
use heddle_proxy::nft::affinity::Affinities;
use heddle_proxy::nft::probe::probe;
use heddle_proxy::nft::{Abilities, Kernel, Netlink, Nft, Settings, ruleset};
use heddle_tests::lab::Lab;
use heddle_tests::namespace::Namespace;
use heddle_tests::objects::{list, service, slice};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::proxy::{Manifests, Proxy};
use std::error::Error;
use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

type Outcomes = Result<(), Box<dyn Error>>;

const NODE: &str = "node-1";
/// The port of a Service's health check.
const CHECK: u16 = 32_000;

/// Three Services with two endpoints each, which have this port.
fn three_services(target: u16) -> Vec<Change> {
    let of = |number: u8| {
        let name = format!("s{number}");
        let port = ServicePort { name: "".into(), protocol: Protocol::Tcp, port: 80, node_port: None };
        let cluster_ips = [[10, 96, 0, number].into()].into();
        let service = Service { cluster_ips, ports: vec![port], ..Service::default() };
        let endpoint = |last: u8| SliceEndpoint {
            address: [10, 244, number, last].into(),
            ready: true,
            serving: true,
            terminating: false,
            hints: None,
            node: Some(NODE.into()),
        };
        let slice = Slice {
            service: name.as_str().into(),
            ports: vec![SlicePort { name: "".into(), protocol: Protocol::Tcp, port: target }],
            endpoints: [1, 2].map(endpoint).into(),
            trigger: Triggered::default(),
        };
        let name = ObjectName::new("default", &name);
        [Change::ServiceApplied(name.clone(), service.into()), Change::SliceApplied(name, slice.into())]
    };
    (1..=3).flat_map(of).collect()
}

/// The kernel, and an IPv6 endpoint in place of those of one frontend on the way there: no object can lead to that.
struct Garbled {
    kernel: Netlink,
    frontend: Option<Frontend>,
}

impl Kernel for Garbled {
    fn load(&mut self, family: TableFamily) -> Result<Option<Table>, NetlinkError> {
        self.kernel.load(family)
    }

    fn forget(&mut self, family: TableFamily, allowed: &Affinities) -> Result<usize, NetlinkError> {
        self.kernel.forget(family, allowed)
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), CommitError> {
        let mut garbled = transaction.clone();
        let of_frontend = |key: &Cells| {
            let garbles = |frontend| key.as_bytes().starts_with(ruleset::frontend_key(frontend).as_bytes());
            self.frontend.as_ref().is_some_and(garbles)
        };
        for op in &mut garbled.ops {
            match op {
                Op::AddElement(_, key, Data::Cells(endpoint)) if of_frontend(key) => {
                    *endpoint = Cells::default().address(Ipv6Addr::LOCALHOST.into()).port(8080);
                }
                _ => {}
            }
        }
        self.kernel.commit(&garbled)
    }
}

/// The names of the frontends that are set aside; what the kernel has is what is wanted of the rest.
fn set_aside(agent: &mut Agent<Nft<Garbled>>, written: usize) -> Vec<String> {
    assert_eq!(agent.sync(), None);
    let dataplane = agent.dataplane();
    let want = dataplane.tables().next().cloned();
    let have = dataplane.kernel().load(TableFamily::Ip).expect("the table can be read");
    assert_eq!(have, want);
    assert_eq!(have.map(|table| table.sets[ruleset::SERVICES].elements.len()), Some(written));
    dataplane.set_aside().map(|aside| format!("{}: {}", aside.frontend, aside.why)).collect()
}

#[test]
fn a_frontend_that_the_real_kernel_refuses_is_set_aside_and_named_and_the_others_are_written() -> Outcomes {
    let frontend =
        Frontend { place: Place::Address([10, 96, 0, 2].into()), protocol: Protocol::Tcp, port: 80 };
    Namespace::new("node")?.enter(|| -> Result<(), NetlinkError> {
        let kernel = Garbled { kernel: Netlink::open()?, frontend: Some(frontend) };
        let mut agent = Agent::new(NODE, Nft::new(kernel, &Settings::default()));
        let complete = [Kind::Service, Kind::Slice].map(Change::Complete);
        let tell = |agent: &mut Agent<Nft<Garbled>>, target, garbled: bool| {
            agent.dataplane().kernel().frontend = garbled.then_some(frontend);
            let changes = three_services(target).into_iter().chain(complete.clone());
            changes.for_each(|change| agent.take(Event::Change(change)));
            set_aside(agent, if garbled { 2 } else { 3 })
        };
        // At the start, and then beside others that are changed.
        for (target, garbled) in [(8080, true), (8081, false), (8082, true)] {
            let refused = tell(&mut agent, target, garbled);
            assert_eq!(refused.len(), usize::from(garbled), "{refused:?}");
            let right = |line: &String| {
                line.starts_with("10.96.0.2:80/tcp: element 10.96.0.2 . tcp . 80 . 0 : ")
                    && line.ends_with(" of endpoints: Invalid argument (os error 22)")
            };
            assert!(refused.iter().all(right), "{refused:?}");
        }
        Ok(())
    })??;
    Ok(())
}

/// Empties a map of ours as often as it can, for some time. Returns how often somebody had filled it meanwhile.
fn edit_in_a_loop(time: Duration) -> Result<u32, Box<dyn Error + Send + Sync>> {
    let mut socket = Socket::open(Family::Netfilter)?;
    let table = nft::load(&mut socket, TableFamily::Ip, ruleset::TABLE)?.ok_or("no table")?;
    let map = &table.sets[ruleset::ENDPOINTS];
    let mut delete = Transaction::new(TableFamily::Ip, ruleset::TABLE.into(), ruleset::COMMENT);
    let gone = |(key, data)| Op::DeleteElement(ruleset::ENDPOINTS.into(), key, data);
    delete.ops = map.elements.iter().map(gone).collect();
    let (start, mut found) = (Instant::now(), 0);
    while start.elapsed() < time {
        found += u32::from(nft::commit(&mut socket, &delete).is_ok());
    }
    Ok(found)
}

/// kp:P6
#[test]
fn who_empties_a_map_in_a_loop_is_answered_at_a_pace_and_named_once_and_the_map_is_whole_soon_after()
-> Outcomes {
    let lab = Lab::new(&[NODE])?;
    let node = lab.node(NODE)?;
    let manifests = Manifests::of(node)?;
    let endpoints: Vec<IpAddr> = vec!["10.244.1.11".parse()?, "10.244.1.12".parse()?];
    let objects = [service("web", &["10.96.0.10".parse()?], 80, 8080), slice("web", NODE, &endpoints, 8080)];
    manifests.put("web.json", &list(&objects).to_string())?;
    let mut proxy = Proxy::start(node, &manifests)?;
    proxy.ready(node)?;
    let listed = || node.nft(["list", "ruleset"]).map(|listed| listed.stdout);
    let before = listed()?;
    let time = Duration::from_secs(2);
    let found = node.namespace().enter(|| edit_in_a_loop(time))?.map_err(|error| error.to_string())?;
    eventually("the map as it was", Duration::from_secs(1), || {
        let now = listed().map_err(|error| error.to_string())?;
        if now == before { Ok(()) } else { Err(now) }
    })?;
    assert!((4..=12).contains(&found), "emptied {found} times in {time:?}");
    proxy.process().prints("nobody else edits the tables of heddle-proxy any more")?;
    let log = proxy.log();
    assert_eq!(log.matches("somebody else edits the tables of heddle-proxy").count(), 1, "{log}");
    assert!(!log.contains("ERROR"), "{log}");
    Ok(())
}

/// The kernel, which is given something that it refuses in place of rules that set a label.
struct Unlabelled(Netlink);

impl Kernel for Unlabelled {
    fn load(&mut self, family: TableFamily) -> Result<Option<Table>, NetlinkError> {
        self.0.load(family)
    }

    fn forget(&mut self, family: TableFamily, allowed: &Affinities) -> Result<usize, NetlinkError> {
        self.0.forget(family, allowed)
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), CommitError> {
        let mut garbled = transaction.clone();
        for op in &mut garbled.ops {
            if let Op::AddRule(_, rule) = op
                && matches!(rule[..], [Statement::SetLabel(_)])
            {
                *rule = vec![Statement::InSet(vec![], "none".into())];
            }
        }
        self.0.commit(&garbled)
    }
}

#[test]
fn a_trial_of_the_kernel_names_what_is_missing_leaves_nothing_and_is_not_heard_of() -> Outcomes {
    Namespace::new("node")?
        .enter(|| -> Result<(), Box<dyn Error + Send + Sync>> {
            let mut listener = Listener::open()?;
            let abilities = probe(&mut Netlink::open()?, true);
            assert_eq!(abilities, Abilities { able: TableFamily::ALL.into(), unable: vec![] });
            let Abilities { able, unable } = probe(&mut Unlabelled(Netlink::open()?), true);
            assert_eq!(able, []);
            for unable in unable {
                assert_eq!(unable.lacks, ["CONFIG_NF_CONNTRACK_LABELS"], "{unable}");
            }
            let mut real = Transaction::new(TableFamily::Ip, "real".into(), "");
            real.ops.push(Op::AddTable);
            nft::commit(&mut Socket::open(Family::Netfilter)?, &real)?;
            assert_eq!(listener.hear()?, Heard::Changed(vec![(Some(TableFamily::Ip), "real".to_owned())]));
            Ok(())
        })?
        .map_err(|error| error.to_string())?;
    Ok(())
}

/// A transaction that makes a table of this name with many chains, too large for a listener to hear of each.
fn large(name: &str) -> Transaction {
    let mut transaction = Transaction::new(TableFamily::Ip, name.into(), "");
    let chains = (0..2000).map(|number| Op::AddChain(format!("c{number}").as_str().into(), None));
    transaction.ops = [Op::AddTable].into_iter().chain(chains).collect();
    transaction
}

/// What a listener does not hear of, since it is ours and large, is no reason to look; what somebody else did meanwhile is.
#[test]
fn large_changes_of_ours_are_not_heard_and_what_others_do_meanwhile_is_a_doubt() -> Outcomes {
    let done = Namespace::new("node")?.enter(|| -> Result<(), Box<dyn Error + Send + Sync>> {
        let mut listener = Listener::open()?;
        let (doubt, doubts) = mpsc::channel();
        let kernel = Netlink::open()?;
        listener.ignore(kernel.port())?;
        let mut kernel = kernel.unheard_by(listener.ears(), move || _ = doubt.send(()));
        kernel.commit(&large("alone"))?;
        assert!(doubts.try_recv().is_err());
        let (kept, more) = (large("kept"), large("refused"));
        let refused = Transaction { ops: [&more.ops[..], &[Op::DeleteSet("none".into())]].concat(), ..more };
        assert!(kernel.commit(&refused).is_err());
        assert!(doubts.try_recv().is_err(), "nothing was changed");
        let (over, mut others) = (AtomicBool::new(false), Socket::open(Family::Netfilter)?);
        let mut transaction = Transaction::new(TableFamily::Ip, "others".into(), "");
        // The kernel counts no commit that changes nothing.
        transaction.ops.extend([Op::AddTable, Op::DeleteTable]);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    nft::commit(&mut others, &transaction).expect("nobody else has such a table");
                }
            });
            let doubted = eventually("another change in the midst of ours", PATIENCE, || {
                kernel.commit(&kept).map_err(|error| error.to_string())?;
                doubts.try_recv().map_err(|_| "there was none".to_owned())
            });
            over.store(true, Ordering::Relaxed);
            doubted
        })?;
        // It may have heard none of those.
        nft::commit(&mut others, &transaction)?;
        let heard = listener.hear()?;
        let others = vec![(Some(TableFamily::Ip), "others".to_owned())];
        assert!(heard == Heard::Changed(others) || heard == Heard::Lost, "{heard:?}");
        Ok(())
    })?;
    done.map_err(|error| error.to_string())?;
    Ok(())
}

/// kp:C18, kp:G6: without IPv6 the other family is served alone, and nothing is said of the one that is not there but once.
#[test]
fn a_node_without_ipv6_has_one_table_and_says_so_once() -> Outcomes {
    let lab = Lab::new(&[NODE])?;
    let node = lab.node(NODE)?;
    node.namespace().sysctl("ipv6/conf/all/disable_ipv6", "1")?;
    let manifests = Manifests::of(node)?;
    let web = |endpoint: &str| -> Result<String, Box<dyn Error>> {
        let objects = ["10.96.0.10", "fd00:96::10"].map(str::parse);
        let addresses: Vec<IpAddr> = objects.into_iter().collect::<Result<_, _>>()?;
        let slice = slice("web", NODE, &[endpoint.parse()?], 8080);
        let mut web = service("web", &addresses, 80, 8080);
        web["spec"]["type"] = "LoadBalancer".into();
        web["spec"]["externalTrafficPolicy"] = "Local".into();
        web["spec"]["healthCheckNodePort"] = CHECK.into();
        Ok(list(&[web, slice]).to_string())
    };
    manifests.put("web.json", &web("10.244.1.11")?)?;
    let mut proxy = Proxy::start(node, &manifests)?;
    proxy.process().prints("wrote the Services of this node")?;
    manifests.put("web.json", &web("10.244.1.12")?)?;
    eventually("the changed endpoint", PATIENCE, || {
        let listed = node.nft(["list", "ruleset"]).map_err(|error| error.to_string())?.stdout;
        if listed.contains("10.244.1.12") { Ok(()) } else { Err(listed) }
    })?;
    assert_eq!(node.nft(["list", "tables"])?.stdout, "table ip heddle-proxy\n");
    let listens = |of: &str| -> Result<bool, Box<dyn Error>> {
        let sockets =
            node.namespace().enter(|| fs::read_to_string(format!("/proc/thread-self/net/{of}")))??;
        Ok(sockets.contains(&format!(":{CHECK:04X} ")))
    };
    eventually("the health check of IPv4", PATIENCE, || match listens("tcp") {
        Ok(true) => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    assert!(!listens("tcp6")?, "nobody is told of endpoints by a family that is not routed");
    let log = proxy.log();
    assert_eq!(log.matches("IPv6").count(), 2, "one line with the name twice: {log}");
    assert!(!log.contains("ERROR"), "{log}");
    Ok(())
}
