//! More Services than there was room for, come and gone while clients connect.

use super::{FIRST, NODE, Outcomes, Stage, WEB};
use heddle_tests::objects::{list, service, slice};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::traffic::Outcome;
use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

/// More than the first map of frontends takes.
const SERVICES: u16 = 1_500;
/// Of each; in all, more than a chunk of slots takes.
const ENDPOINTS: u8 = 8;
/// Where the proxy is scraped.
const METRICS: u16 = 10_249;
/// The one of them that answers.
const LAST: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 97, 255, 1)), 80);

/// Services that lead nowhere, and one more that answers.
fn many() -> Value {
    let nowhere = (0..SERVICES).flat_map(|number| {
        let [high, low] = number.to_be_bytes();
        let endpoints: Vec<IpAddr> = (1..=ENDPOINTS).map(|last| [10, 100 + high, low, last].into()).collect();
        let name = format!("s-{number}");
        [service(&name, &[[10, 97, high, low].into()], 80, 80), slice(&name, NODE, &endpoints, 80)]
    });
    let last =
        [service("last", &[LAST.ip()], LAST.port(), WEB.port()), slice("last", NODE, &[FIRST], WEB.port())];
    list(&nowhere.chain(last).collect::<Vec<_>>())
}

impl Stage {
    /// Waits until the last Service is there, or is not.
    fn has_last(&self, is_there: bool) -> Outcomes {
        eventually(&format!("the last Service: {is_there}"), PATIENCE, || {
            match self.asks(self.client.namespace(), LAST).map_err(|error| error.to_string())? {
                Outcome::Answer { .. } if is_there => Ok(()),
                Outcome::Unreachable if !is_there => Ok(()),
                other => Err(other.to_string()),
            }
        })?;
        Ok(())
    }

    /// Waits until sockets serve that many: packets do before.
    fn sockets_have_all(&self) -> Outcomes {
        let node = self.node()?.namespace();
        eventually("sockets that serve all", PATIENCE, || {
            let told =
                node.enter(scrape).map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
            let served = told.lines().find_map(|line| line.strip_prefix("heddle_proxy_sockets_frontends "));
            let served = served.and_then(|count| count.parse().ok()).unwrap_or(0_u16);
            if served > SERVICES { Ok(()) } else { Err(format!("{served} frontends")) }
        })?;
        Ok(())
    }
}

fn scrape() -> io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, METRICS))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut told = String::new();
    stream.read_to_string(&mut told)?;
    Ok(told)
}

#[test]
fn thousands_of_services_come_and_go_and_come_back_and_no_connection_fails() -> Outcomes {
    let mut stage = Stage::new()?;
    let mut held = stage.hold(20)?;
    let busy = stage.steady()?;
    for is_there in [true, false, true] {
        if is_there {
            stage.manifests.put("many.json", &many().to_string())?;
        } else {
            stage.manifests.remove("many.json")?;
        }
        stage.has_last(is_there)?;
        busy.sees(50)?;
        held.goes_on()?;
    }
    busy.ends_well()?;
    let log = stage.proxy.log();
    assert!(!log.contains("by packets alone") && !log.contains("ERROR"), "{log}");
    stage.sockets_have_all()?;
    stage.leave_sockets_alone()?;
    stage.has_last(true)?;
    let start = stage.start.clone();
    stage.restart(&start)?;
    stage.proxy.serves_sockets()?;
    stage.sockets_have_all()?;
    stage.leave_sockets_alone()?;
    stage.has_last(true)
}
