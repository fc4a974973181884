//! The cgroup whose sockets are served is another one, or is gone.

use super::{Outcomes, Stage, said_again};
use heddle_netlink::Errno;
use heddle_tests::cgroup::Cgroup;
use heddle_tests::patience::{PATIENCE, eventually};
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Moves all threads from one cgroup to another: those of the proxy, and the one that started it. Some end meanwhile, and some begin.
fn vacate(from: &Path, to: &Path) -> Outcomes {
    let [from, to] = [from, to].map(|cgroup| cgroup.join("cgroup.threads"));
    eventually("an empty cgroup", PATIENCE, || {
        let left = fs::read_to_string(&from).map_err(|error| error.to_string())?;
        for thread in left.lines() {
            match fs::write(&to, thread) {
                Err(error) if error.raw_os_error() != Some(Errno::SRCH.raw_os_error()) => {
                    return Err(error.to_string());
                }
                _ => {}
            }
        }
        if left.is_empty() { Ok(()) } else { Err(left) }
    })?;
    Ok(())
}

impl Stage {
    /// Whether sockets serve the client in each of these cgroups, now that nobody else does.
    fn who_is_served(&self, cgroups: &[&Arc<Cgroup>]) -> Result<Vec<bool>, Box<dyn Error>> {
        let inside =
            |cgroup: &Arc<Cgroup>| self.client.namespace().clone().in_cgroup(Some(Arc::clone(cgroup)));
        cgroups.iter().map(|cgroup| self.is_served(&inside(cgroup))).collect()
    }
}

#[test]
fn links_follow_the_root_to_another_cgroup_and_let_the_old_one_go() -> Outcomes {
    let mut stage = Stage::new()?;
    let first = Arc::clone(stage.node()?.namespace().cgroup().ok_or("the node has a cgroup")?);
    let second = Arc::new(Cgroup::new()?);
    let mut held = stage.hold(20)?;
    let busy = stage.steady()?;
    let here = stage.start.clone();
    let there = here.clone().moved(&second);
    for start in [&there, &here] {
        stage.restart(start)?;
        stage.proxy.serves_sockets()?;
        busy.sees(50)?;
        held.goes_on()?;
    }
    busy.ends_well()?;
    for (start, expected) in [(&there, [false, true]), (&here, [true, false])] {
        stage.restart(start)?;
        stage.proxy.serves_sockets()?;
        stage.leave_sockets_alone()?;
        assert_eq!(stage.who_is_served(&[&first, &second])?, expected);
    }
    Ok(())
}

/// ebpf:6.6: the root is found again as soon as it is there, and until then packets are served, and it is said.
#[test]
fn where_the_cgroup_is_gone_packets_are_served_and_sockets_again_once_it_is_back() -> Outcomes {
    let home = Cgroup::new()?;
    let cgroup = Arc::new(Cgroup::new()?);
    let mut stage = Stage::started(|start| start.moved(&cgroup))?;
    stage.proxy.serves_sockets()?;
    let busy = stage.steady()?;
    vacate(cgroup.path(), home.path())?;
    fs::remove_dir(cgroup.path())?;
    stage.lets_sockets_go()?;
    stage.proxy.logs(&format!("nftables): open the cgroup {}", cgroup.path().display()))?;
    busy.sees(50)?;

    fs::create_dir(cgroup.path())?;
    fs::write(cgroup.path().join("cgroup.type"), "threaded")?;
    vacate(home.path(), cgroup.path())?;
    said_again(&stage.proxy, "Services are served at sockets")?;
    busy.ends_well()?;
    stage.leave_sockets_alone()?;
    assert_eq!(stage.who_is_served(&[&cgroup])?, [true]);
    Ok(())
}
