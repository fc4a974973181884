//! The `heddle-lab` program: its story is true, and nothing is left of it however it ends.

use heddle_tests::namespace::Namespace;
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::process::{Invocation, Process};
use heddle_tests::remains::users_of;
use heddle_tests::scratch::Scratch;
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

type Outcomes = Result<(), Box<dyn Error>>;

/// A running `heddle-lab up`, and the namespaces that it says it has, as the kernel names them (`net:[…]`).
fn standing() -> Result<(Process, BTreeSet<PathBuf>), Box<dyn Error>> {
    let lab = Invocation::of("heddle-lab")?.args(["up"]).start(&Namespace::new("host")?)?;
    lab.prints("It stands until Ctrl-C")?;
    let printed = lab.stdout();
    let ways = printed.split_whitespace().filter_map(|word| word.strip_prefix("--net="));
    let namespaces = ways.map(fs::read_link).collect::<Result<BTreeSet<_>, _>>()?;
    assert_eq!(namespaces.len(), 8, "three nodes with a pod each, a fabric and a host outside: {printed}");
    assert!(
        users_of(&namespaces).len() >= 7,
        "heddle-lab holds them, heddle-node and heddle-proxy run in three"
    );
    Ok((lab, namespaces))
}

fn await_nobody(namespaces: &BTreeSet<PathBuf>) -> Outcomes {
    eventually("the end of every process of the lab", PATIENCE, || match users_of(namespaces) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?} left")),
    })?;
    Ok(())
}

#[test]
fn every_step_of_the_demonstration_is_true() -> Outcomes {
    let told = Invocation::of("heddle-lab")?.args(["demo"]).run(&Namespace::new("host")?)?;
    assert!(told.status.success(), "{}{}", told.stdout, told.stderr);
    assert!(told.stdout.contains("All of it was true"), "{}", told.stdout);
    Ok(())
}

#[test]
fn the_demonstration_fails_when_a_program_is_missing() -> Outcomes {
    let alone = Scratch::new()?;
    let copy = alone.path().join("heddle-lab");
    fs::copy(env!("CARGO_BIN_EXE_heddle-lab"), &copy)?;
    let told = Invocation::foreign(copy).args(["demo"]).run(&Namespace::new("host")?)?;
    assert_eq!(told.status.code(), Some(1));
    assert!(told.stderr.contains("build it with `cargo build --workspace --bins`"), "{}", told.stderr);
    Ok(())
}

#[test]
fn nothing_is_left_of_a_lab_that_was_interrupted() -> Outcomes {
    let (mut lab, namespaces) = standing()?;
    lab.signal(Signal::INT)?;
    assert!(lab.wait(PATIENCE)?.success());
    assert!(lab.stdout().ends_with("Gone.\n"));
    await_nobody(&namespaces)
}

#[test]
fn nothing_is_left_of_a_lab_that_was_killed() -> Outcomes {
    let (mut lab, namespaces) = standing()?;
    lab.kill()?;
    await_nobody(&namespaces)
}
