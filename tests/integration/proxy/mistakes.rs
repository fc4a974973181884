//! Mistakes of who runs it, and of who writes the manifests.

use super::{Outcomes, Stage, TARGET, VIP};
use heddle_tests::namespace::Namespace;
use heddle_tests::objects::service;
use heddle_tests::process::{Invocation, Output};
use std::error::Error;

/// Runs the proxy with arguments that must make it end.
fn refused(arguments: &[&str]) -> Result<Output, Box<dyn Error>> {
    Ok(Invocation::of("heddle-proxy")?
        .args(["--status-socket="])
        .args(arguments)
        .run(&Namespace::new("node")?)?)
}

#[test]
fn an_unknown_flag_is_named_and_ends_the_program() -> Outcomes {
    let output = refused(&["--manifests", "/proc", "--bogus"])?;
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stderr.contains("unexpected argument '--bogus'"), "{output:?}");
    Ok(())
}

#[test]
fn a_folder_that_cannot_be_read_is_named_and_ends_the_program() -> Outcomes {
    for folder in ["/nowhere/manifests", "/proc/version"] {
        let output = refused(&["--manifests", folder, "--hostname-override", "node-1"])?;
        assert_eq!(output.status.code(), Some(1));
        let text = format!("cannot read the manifests folder {folder}");
        assert!(output.stderr.contains(&text), "{output:?}");
    }
    Ok(())
}

#[test]
fn a_broken_file_is_reported_by_name_and_its_neighbours_are_served() -> Outcomes {
    let mut stage = Stage::new()?;
    stage.manifests.put("broken.yaml", "apiVersion: v1\nkind: Service\n  metadata: {name: [\n")?;
    stage.proxy.process().prints("broken.yaml")?;
    stage.await_answers(&["web-1", "web-2"])
}

#[test]
fn an_impossible_port_is_reported_by_field_and_the_last_good_state_stays() -> Outcomes {
    let mut stage = Stage::new()?;
    let mut bad = service("web", &[VIP.ip()], VIP.port(), TARGET);
    bad["spec"]["ports"][0]["port"] = 70_000.into();
    stage.manifests.put("service.json", &bad.to_string())?;
    stage.proxy.process().prints("spec.ports[0].port")?;
    assert!(
        stage.proxy.log().contains("70000") && stage.proxy.log().contains("service.json"),
        "{}",
        stage.proxy.log()
    );
    stage.await_answers(&["web-1", "web-2"])
}
