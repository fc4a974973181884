//! Somebody else takes programs away: packets are served at once, and sockets again soon.

use super::{Outcomes, Stage, said_again};
use heddle_tests::patience::{PATIENCE, eventually};
use std::fs;

const TAKEN_ANEW: &str = "they are taken anew";
const SERVES: &str = "Services are served at sockets";

impl Stage {
    /// Waits until the names are those of before.
    fn is_healed(&self, before: &[String]) -> Outcomes {
        said_again(&self.proxy, SERVES)?;
        assert_eq!(self.pinned(), before);
        self.proxy.logs(TAKEN_ANEW)?;
        Ok(())
    }
}

#[test]
fn a_link_that_somebody_removes_is_made_again_and_no_connection_fails_meanwhile() -> Outcomes {
    let mut stage = Stage::new()?;
    let mut held = stage.hold(20)?;
    let busy = stage.steady()?;
    let before = stage.pinned();
    fs::remove_file(stage.pins().join("connect4"))?;
    busy.sees(20)?;
    held.goes_on()?;
    stage.is_healed(&before)?;
    held.goes_on_as_before()?;
    held.shows_services()?;
    busy.ends_well()?;
    stage.leave_sockets_alone()?;
    assert!(stage.is_served(stage.client.namespace())?);
    Ok(())
}

#[test]
fn all_names_may_go_with_their_folder_and_sockets_are_served_again() -> Outcomes {
    let mut stage = Stage::new()?;
    let mut held = stage.hold(20)?;
    let busy = stage.steady()?;
    let before = stage.pinned();
    fs::read_dir(stage.pins())?.try_for_each(|entry| fs::remove_file(entry?.path()))?;
    // The proxy may be as fast.
    let _ = fs::remove_dir(stage.pins());
    busy.sees(20)?;
    held.goes_on()?;
    stage.is_healed(&before)?;
    held.goes_on()?;
    busy.ends_well()?;
    stage.leave_sockets_alone()?;
    assert!(stage.is_served(stage.client.namespace())?);
    Ok(())
}

/// A proxy that is killed while it moves its links to another cgroup leaves the next link under the name of a draft.
#[test]
fn a_link_that_had_no_name_yet_goes_with_the_next_start() -> Outcomes {
    let mut stage = Stage::new()?;
    stage.proxy.process().kill()?;
    let before = stage.pinned();
    fs::hard_link(stage.pins().join("connect4"), stage.pins().join("connect4_new"))?;
    let start = stage.start.clone();
    stage.restart(&start)?;
    eventually("the names of before", PATIENCE, || {
        let pinned = stage.pinned();
        if pinned == before { Ok(()) } else { Err(format!("{pinned:?}")) }
    })?;
    Ok(())
}
