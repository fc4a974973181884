//! What connected sockets were told: in a map while there is room, with the socket itself beyond.

use super::held::PORT;
use super::{DNS, FIRST, KEPT, Outcomes, SECOND, Stage, Start, services};
use aya::maps::{HashMap, Map, MapData, MapError};
use heddle_ebpf::abi::Told;
use heddle_netlink::{Family, Protocol, Socket, diagnosis};
use heddle_proxy::ebpf::kernel::MOST_CONNECTIONS;
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::process::Invocation;
use std::error::Error;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};

/// By the sockets' cookies.
pub(crate) type Remembered = HashMap<MapData, u64, [u8; size_of::<Told>()]>;

const HELD: usize = 20;

impl Stage {
    pub(crate) fn remembered(&self, protocol: &str) -> Result<Remembered, Box<dyn Error>> {
        let name = self.pinned().into_iter().find(|name| name.starts_with(&format!("{protocol}-")));
        let path = self.pins().join(name.ok_or("the map has a name")?);
        Ok(HashMap::try_from(Map::from_map_data(MapData::from_pin(path)?)?)?)
    }
}

/// The proxy tries sockets out meanwhile, and theirs are there for a moment.
fn has(remembered: &Remembered, count: usize) -> Outcomes {
    eventually(&format!("{count} sockets to be remembered"), PATIENCE, || {
        let found = remembered.keys().filter(Result::is_ok).count();
        if found == count { Ok(()) } else { Err(format!("{found} are")) }
    })?;
    Ok(())
}

/// Takes all places that are left.
pub(crate) fn fill(remembered: &mut Remembered) -> Outcomes {
    // No socket gets such a cookie.
    let full = (0..=u64::from(MOST_CONNECTIONS))
        .find_map(|number| remembered.insert(u64::MAX - number, [0; size_of::<Told>()], 0).err());
    assert!(matches!(full, Some(MapError::SyscallError(_))), "{full:?}");
    Ok(())
}

#[test]
fn what_a_socket_was_told_goes_with_it_and_stays_while_the_proxy_is_dead() -> Outcomes {
    let mut stage = Stage::new()?;
    let remembered = [(stage.remembered("tcp")?, HELD), (stage.remembered("udp")?, 1)];
    let held = stage.hold(HELD)?;
    let has_all = || remembered.iter().try_for_each(|(map, count)| has(map, *count));
    has_all()?;
    stage.proxy.process().kill()?;
    has_all()?;
    held.shows_services()?;
    drop(held);
    remembered.iter().try_for_each(|(map, _)| has(map, 0))
}

#[test]
fn with_more_connections_than_the_maps_take_peers_keep_their_names() -> Outcomes {
    let stage = Stage::new()?;
    for protocol in ["tcp", "udp"] {
        fill(&mut stage.remembered(protocol)?)?;
    }
    let mut held = stage.hold(HELD)?;
    held.shows_services()?;
    held.answers_come_from_the_service()?;
    held.goes_on()
}

#[test]
fn a_connected_socket_hears_the_service_and_one_that_connects_again_hears_the_next() -> Outcomes {
    let stage = Stage::new()?;
    for is_full in [false, true] {
        if is_full {
            fill(&mut stage.remembered("udp")?)?;
        }
        let held = stage.hold(1)?;
        held.answers_come_from_the_service()?;
        // One of them is whom it talked to.
        for endpoint in [FIRST, SECOND] {
            held.leaves_the_service(SocketAddr::new(endpoint, DNS.port()))?;
        }
    }
    Ok(())
}

/// ebpf:6.4: of TCP, where somebody asks for it.
#[test]
fn a_connection_to_an_endpoint_that_is_gone_is_closed_where_that_is_wanted() -> Outcomes {
    let stage = Stage::started(|start| Start { flags: &["--close-stale-tcp"], ..start })?;
    stage.proxy.serves_sockets()?;
    let mut held = stage.hold(HELD)?;
    let client = stage.client.namespace();
    let direct = client.enter(|| TcpStream::connect_timeout(&SocketAddr::new(FIRST, PORT), PATIENCE))??;
    assert!(held.of(FIRST) > 0 && held.of(SECOND) > 0, "one of half a million runs");
    stage.manifests.put("services.json", &services(&[SECOND]).to_string())?;
    held.only_those_of_end(FIRST)?;
    // Nobody led this one.
    assert!(direct.take_error()?.is_none() && direct.peer_addr().is_ok());
    Ok(())
}

/// Nor does a client wait for the answer of one that will never give it: the kernel would for two minutes.
#[test]
fn a_connection_that_waits_for_an_endpoint_that_is_gone_is_closed_where_that_is_wanted() -> Outcomes {
    const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 244, 1, 13));
    let stage = Stage::started(|start| Start { flags: &["--close-stale-tcp"], ..start })?;
    stage.proxy.serves_sockets()?;
    for web in &stage.webs {
        let silence = format!(
            "table ip silence {{ chain in {{ type filter hook input priority 0; tcp dport {PORT} drop; }}; }}"
        );
        let made = Invocation::foreign("nft").args(["-f", "-"]).input(silence).run(web.namespace())?;
        assert!(made.status.success(), "{made:?}");
    }
    let client = stage.client.namespace();
    let waiting = client.spawn(|| TcpStream::connect(KEPT).map_err(|error| error.kind()))?;
    let is_there = || -> Result<bool, Box<dyn Error + Send + Sync>> {
        let waits = |open: &diagnosis::Open| [FIRST, SECOND].contains(&open.remote.ip());
        Ok(!diagnosis::list(&mut Socket::open(Family::Diagnosis)?, Protocol::Tcp, waits)?.is_empty())
    };
    eventually("a client that waits", PATIENCE, || {
        let found = client.enter(is_there).map_err(|error| error.to_string())?;
        if found.map_err(|error| error.to_string())? { Ok(()) } else { Err("nobody does".to_owned()) }
    })?;
    stage.manifests.put("services.json", &services(&[ELSEWHERE]).to_string())?;
    let ended = waiting.join().map_err(|_| "it panicked")??;
    assert_eq!(ended.map(drop), Err(ErrorKind::ConnectionAborted));
    Ok(())
}
