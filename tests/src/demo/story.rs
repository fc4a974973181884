//! The order of the story.

use crate::demo::stage::Stage;
use crate::demo::teller::Teller;
use crate::demo::{Error, damage, pods, services};
use std::io::Write;
use std::time::Instant;

/// Tells every step to `out` while it happens, and takes everything down.
///
/// # Errors
/// [`Error::Wrong`] for the first line that is not true; else what could not be built.
pub fn tell(out: &mut impl Write) -> Result<(), Error> {
    let (start, mut teller) = (Instant::now(), Teller::new(out));
    let mut stage = Stage::of_nodes()?;
    let told = tell_all(&mut stage, &mut teller);
    if told.is_err() {
        teller.head(&stage.cluster.log())?;
    }
    drop(stage);
    told?;
    teller.table()?;
    let seconds = start.elapsed().as_secs_f64();
    teller.head(&format!("All of it was true, and all of it is gone again. ({seconds:.1} s)"))
}

fn tell_all(stage: &mut Stage, teller: &mut Teller<'_>) -> Result<(), Error> {
    pods::nodes_come_up(stage, teller)?;
    pods::join(stage, teller)?;
    pods::reach_each_other(stage, teller)?;
    pods::leave_the_cluster(stage, teller)?;
    services::service(stage, teller)?;
    services::node_port(stage, teller)?;
    // In this order: connections that failed are remembered by connection tracking, and must not be taken up again.
    damage::programs_are_killed(stage, teller)?;
    damage::others_flush(stage, teller)?;
    damage::a_node_leaves(stage, teller)
}
