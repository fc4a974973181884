//! Many clients, many health checks, and few files.

use super::{EVERYWHERE, Outcomes, PROBES, Stage, ask, balanced};
use heddle_tests::lab::Lab;
use heddle_tests::objects::list;
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::process::Invocation;
use heddle_tests::proxy::Manifests;
use serde_json::{Value, json};
use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

#[test]
fn clients_that_say_nothing_keep_nobody_from_an_answer() -> Outcomes {
    let stage = Stage::new(&[], &[])?;
    stage.probe("/livez", 200)?;
    let to = stage.address(0, PROBES)?;
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(stage.lab.outside().enter(|| TcpStream::connect(to))??);
    }
    for _ in 0..10 {
        stage.probe("/livez", 200)?;
    }
    let mut oldest = idle.swap_remove(0);
    oldest.set_read_timeout(Some(PATIENCE))?;
    let mut rest = Vec::new();
    let cut = oldest.write_all(b"GET").and_then(|()| oldest.read_to_end(&mut rest));
    assert!(matches!(cut, Ok(0) | Err(_)) && rest.is_empty(), "{cut:?} {rest:?}");
    Ok(())
}

/// Services, each with a health check of its own.
fn many(count: u16) -> Result<Vec<Value>, Box<dyn Error>> {
    let service = |number: u16| -> Result<Value, Box<dyn Error>> {
        let [high, low] = number.to_be_bytes();
        let mut service = balanced(&format!("s-{number:04}"), 30_000 + number)?;
        service["spec"]["clusterIP"] = json!(format!("10.96.{high}.{low}"));
        service["spec"]["clusterIPs"] = json!([format!("10.96.{high}.{low}")]);
        Ok(service)
    };
    (0..count).map(service).collect()
}

#[test]
fn two_thousand_health_checks_cost_a_file_each_and_no_thread() -> Outcomes {
    let mut stage = Stage::new(&EVERYWHERE, &many(2000)?)?;
    for port in [30_000, 31_000, 31_999] {
        let reply = stage.reply("GET", stage.address(0, port)?, "/", 503)?;
        assert_eq!(reply.body["service"]["name"], format!("s-{:04}", port - 30_000));
    }
    let id = stage.proxy.process().id();
    let threads = fs::read_dir(format!("/proc/{id}/task"))?.count();
    let files = fs::read_dir(format!("/proc/{id}/fd"))?.count();
    assert!(threads < 12, "{threads} threads");
    assert!((2000..2100).contains(&files), "{files} files");
    stage.put(&many(1)?)?;
    stage.closed(stage.lab.outside(), stage.address(0, 31_999)?)?;
    eventually("the files to be closed", PATIENCE, || {
        let files = fs::read_dir(format!("/proc/{id}/fd")).map_err(|e| e.to_string())?.count();
        if files < 100 { Ok(()) } else { Err(files.to_string()) }
    })?;
    Ok(())
}

#[test]
fn at_the_limit_of_files_the_rest_works_and_the_services_are_named() -> Outcomes {
    let lab = Lab::new(&["node-1"])?;
    let node = lab.node("node-1")?;
    let manifests = Manifests::of(node)?;
    manifests.put("objects.json", &list(&many(50)?).to_string())?;
    let program = heddle_tests::process::program("heddle-proxy")?;
    let limited = format!(
        "ulimit -n 300; exec {} --manifests {} --hostname-override node-1 --status-socket= {}",
        program.display(),
        manifests.folder(),
        EVERYWHERE.join(" "),
    );
    let proxy = Invocation::foreign("sh").args(["-c", &limited]).start(node.namespace())?;
    proxy.prints(
        "Service default/s-0049: spec.healthCheckNodePort: this node cannot listen on 0.0.0.0:30049",
    )?;
    proxy.prints("44 others are open, and the process may open no more files")?;
    let to = |port| SocketAddr::new(node.addresses()[0], port);
    assert_eq!(ask(lab.outside(), "GET", to(30_043), "/").map_err(|e| e.to_string())?.code, 503);
    assert_eq!(ask(lab.outside(), "GET", to(PROBES), "/readyz").map_err(|e| e.to_string())?.code, 200);
    manifests.put("objects.json", &list(&many(50)?[40..]).to_string())?;
    eventually("room for those that had none", PATIENCE, || {
        ask(lab.outside(), "GET", to(30_049), "/").map_err(|e| e.to_string())
    })?;
    Ok(())
}
