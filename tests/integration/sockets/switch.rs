//! The mode of a running node changes.

use super::{Outcomes, Stage, Start};

/// Connections of each mode.
const MANY: usize = 500;

/// ebpf:6.8: connections that began in any mode live through every other one.
#[test]
fn a_node_goes_from_packets_to_sockets_and_back_and_keeps_every_connection() -> Outcomes {
    let packets = |start: Start| Start { mode: "nftables", ..start };
    let mut stage = Stage::started(packets)?;
    let sockets = Start { mode: "ebpf", ..stage.start.clone() };
    let mut at_first = stage.hold(MANY)?;
    let busy = stage.steady()?;
    assert!(!stage.pins().exists());

    stage.restart(&sockets)?;
    stage.proxy.serves_sockets()?;
    busy.sees(100)?;
    at_first.goes_on()?;
    let mut at_sockets = stage.hold(MANY)?;

    stage.restart(&packets(sockets))?;
    stage.lets_sockets_go()?;
    busy.sees(100)?;
    at_first.goes_on()?;
    at_sockets.goes_on()?;
    let mut at_last = stage.hold(20)?;
    for held in [&mut at_first, &mut at_sockets, &mut at_last] {
        held.goes_on()?;
    }
    busy.ends_well()
}
