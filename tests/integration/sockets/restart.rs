//! The proxy dies and comes back, and no socket notices.

use super::{Outcomes, STICKY, Stage};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::proxy::Proxy;
use heddle_tests::traffic::{Transport, spread};
use std::collections::BTreeSet;
use std::error::Error;
use std::fs;

/// Enough that a client without affinity would be led to both endpoints.
const OFTEN: usize = 30;
/// What a version with another layout would have left.
const OLD: [&str; 2] = ["peers-0badc0de", "flows-0badc0de"];
/// An API server where nobody is.
const NO_CLUSTER: &str = "\
apiVersion: v1
kind: Config
clusters: [{ name: none, cluster: { server: 'http://192.168.0.1:6443' } }]
contexts: [{ name: none, context: { cluster: none, user: nobody } }]
users: [{ name: nobody, user: {} }]
current-context: none
";

impl Stage {
    /// The endpoints that answer the client on the Service with affinity.
    fn kept_endpoints(&self) -> Result<BTreeSet<String>, Box<dyn Error>> {
        let seen = spread(self.client.namespace(), Transport::Tcp, STICKY, OFTEN)?;
        Ok(seen.keys().map(ToString::to_string).collect())
    }

    /// The proxy is killed, and what sockets were told is from a version with another layout.
    pub(crate) fn become_an_old_version(&mut self) -> Outcomes {
        self.proxy.process().kill()?;
        for old in OLD {
            let map = old.split('-').next().unwrap_or_default();
            let ours = self.pinned().into_iter().find(|name| name.starts_with(&format!("{map}-")));
            fs::rename(self.pins().join(ours.ok_or("a map of this layout")?), self.pins().join(old))?;
        }
        Ok(())
    }
}

/// kp:E3, ebpf:6.8: with nothing but pinned programs, old connections go on, new ones are made, and clients keep their endpoint; and after
/// the next start, too.
#[test]
fn no_connection_notices_that_the_proxy_was_killed_and_started_again() -> Outcomes {
    let mut stage = Stage::new()?;
    let mut held = stage.hold(300)?;
    let kept = stage.kept_endpoints()?;
    assert_eq!(kept.len(), 1, "{kept:?}");
    let busy = stage.steady()?;
    for _ in 0..3 {
        stage.leave_sockets_alone()?;
        busy.sees(100)?;
        held.goes_on_as_before()?;
        assert_eq!(stage.kept_endpoints()?, kept);
        let start = stage.start.clone();
        stage.restart(&start)?;
        stage.proxy.serves_sockets()?;
        busy.sees(100)?;
        held.goes_on_as_before()?;
        held.shows_services()?;
        assert_eq!(stage.kept_endpoints()?, kept);
    }
    busy.ends_well()
}

/// What sockets were told is read by the programs that run: it goes once others run.
#[test]
fn what_a_version_with_another_layout_kept_goes_once_programs_of_this_one_run() -> Outcomes {
    let mut stage = Stage::new()?;
    let mut held = stage.hold(20)?;
    let busy = stage.steady()?;
    stage.become_an_old_version()?;
    let before = stage.pinned();

    // The next one does not know yet what is wanted.
    let kubeconfig = stage.node()?.directory().join("kubeconfig");
    fs::write(&kubeconfig, NO_CLUSTER)?;
    let waiting = stage.start.invocation(&["--kubeconfig", &kubeconfig.to_string_lossy()])?;
    stage.proxy = Proxy::from(waiting.start(&stage.start.inside)?);
    stage.proxy.logs("nothing is written before all is known")?;
    busy.sees(100)?;
    assert_eq!(stage.pinned(), before);
    held.goes_on_as_before()?;

    let start = stage.start.clone();
    stage.restart(&start)?;
    stage.proxy.serves_sockets()?;
    eventually("the old layout to go", PATIENCE, || {
        let pinned = stage.pinned();
        match OLD.iter().any(|old| pinned.iter().any(|name| name == old)) {
            false => Ok(()),
            true => Err(format!("{pinned:?}")),
        }
    })?;
    assert_eq!(stage.pinned().len(), before.len(), "{:?} and {before:?}", stage.pinned());
    held.goes_on()?;
    busy.ends_well()
}
