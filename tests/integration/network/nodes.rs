//! Nodes that come, go, change and are switched off.

use crate::Outcomes;
use crate::stage::{Stage, TARGET, answer, comes_to_answer};
use heddle_tests::lab::Pod;
use heddle_tests::traffic::{Steady, Transport};
use std::error::Error;
use std::net::{IpAddr, SocketAddr};

/// Both pods come to reach each other, and see each other's own addresses.
fn come_together(pods: [&Pod; 2]) -> Outcomes {
    for [from, to] in [pods, [pods[1], pods[0]]] {
        for (address, source) in to.addresses().iter().zip(from.addresses()) {
            let wanted = answer(to.name(), *source);
            comes_to_answer(from.namespace(), SocketAddr::new(*address, TARGET), |outcome| {
                *outcome == wanted
            })?;
        }
    }
    Ok(())
}

/// A pod comes to be without a way to any of these addresses.
pub(crate) fn loses(from: &Pod, addresses: &[IpAddr]) -> Outcomes {
    addresses.iter().try_for_each(|to| {
        comes_to_answer(from.namespace(), SocketAddr::new(*to, TARGET), |outcome| {
            outcome.endpoint().is_none()
        })
    })
}

/// Asks from a pod for another all the time, in each family.
pub(crate) fn steadily(from: &Pod, to: &[IpAddr]) -> Result<Vec<Steady>, Box<dyn Error>> {
    let ask = |ip: &IpAddr| Steady::start(from.namespace(), Transport::Tcp, SocketAddr::new(*ip, TARGET));
    Ok(to.iter().map(ask).collect::<Result<_, _>>()?)
}

/// Every attempt was answered, and enough more are made first.
pub(crate) fn none_failed(clients: Vec<Steady>) -> Outcomes {
    for client in clients {
        client.sees(20)?;
        let report = client.stop()?;
        assert!(report.failures.is_empty(), "{report:?}");
    }
    Ok(())
}

pub(crate) fn leave_and_join(stage: &mut Stage) -> Outcomes {
    let (one, three) = (stage.pod("pod-1")?, stage.pod("pod-3")?);
    let steady = steadily(one, stage.pod("pod-2")?.addresses())?;
    stage.cluster.unregister("node-3")?;
    loses(one, three.addresses())?;
    stage.cluster.register("node-3")?;
    come_together([one, three])?;
    none_failed(steady)
}

/// As when a node is drained and set up again: it joins under its old name with other ranges.
pub(crate) fn get_other_ranges(stage: &mut Stage) -> Outcomes {
    let steady = steadily(stage.pod("pod-1")?, stage.pod("pod-3")?.addresses())?;
    let old = stage.pod("pod-2")?.addresses().to_vec();
    stage.cluster.unregister("node-2")?;
    stage.cluster.lab.give_ranges("node-2", 77)?;
    stage.cluster.register("node-2")?;
    stage.cluster.reboot("node-2")?;
    stage.add_pod("node-2", "pod-2")?;
    let new = stage.pod("pod-2")?;
    assert_ne!(new.addresses(), old);
    come_together([stage.pod("pod-1")?, new])?;
    come_together([stage.pod("pod-3")?, new])?;
    loses(stage.pod("pod-1")?, &old)?;
    none_failed(steady)
}

pub(crate) fn reboot(stage: &mut Stage) -> Outcomes {
    let steady = steadily(stage.pod("pod-1")?, stage.pod("pod-2")?.addresses())?;
    let old = stage.pod("pod-3")?.addresses().to_vec();
    stage.cluster.reboot("node-3")?;
    loses(stage.pod("pod-1")?, &old)?;
    stage.add_pod("node-3", "pod-3")?;
    let three = stage.pod("pod-3")?;
    assert_eq!(three.addresses(), old, "what was leased before the reboot is free");
    come_together([stage.pod("pod-1")?, three])?;
    come_together([stage.pod("pod-2")?, three])?;
    none_failed(steady)
}
