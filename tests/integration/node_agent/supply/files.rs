//! The files themselves: when they come, what is put back, and what hinders.

use super::{Host, comes_to_say, other_version};
use crate::{Outcomes, Stage, comes_to, towards};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::process::program;
use heddle_tests::scratch::Scratch;
use serde_json::json;
use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// cni:3.7, cni:#5, cni:#6: the program first, and the configuration not before a pod would have a network.
#[test]
fn the_configuration_waits_for_the_program_and_for_the_nodes_ranges() -> Outcomes {
    let stage = Stage::new(&["node-1", "node-2"])?;
    let (one, two) = (stage.node("node-1")?, stage.node("node-2")?);
    let mut waiting = one.object();
    waiting["spec"] = json!({});
    stage.put(&waiting)?;
    let host = Host::of(one)?;
    fs::write(host.at("bin"), "a file where a folder should be")?;
    let agent = host.start(&stage, "node-1", &[])?;
    agent.prints("the plugin is not in place as it should be, and it is tried again: make folder")?;
    agent.prints("Node node-1 has no spec.podCIDRs yet")?;
    comes_to(one, &towards(&[two]))?;
    stage.put(&one.object())?;
    agent.prints("no longer so: Node node-1 has no spec.podCIDRs yet")?;
    assert!(!host.place().exists(), "there is no program");
    fs::remove_file(host.at("bin"))?;
    agent.prints("no longer so: the plugin is not in place as it should be")?;
    host.list("10.244.1.0/24")?;
    let built = fs::read(program("heddle-cni")?)?;
    for name in ["bin/heddle-cni", "bin/loopback"] {
        assert!(fs::read(host.at(name))? == built, "{name}");
        assert_eq!(fs::metadata(host.at(name))?.permissions().mode() & 0o777, 0o755);
    }
    Ok(())
}

/// cni:#22, cni:#23: whatever becomes of the files or their folder, they come back whole, and nothing lies beside them.
#[test]
fn what_others_edit_or_remove_is_put_back() -> Outcomes {
    let stage = Stage::new(&["node-1"])?;
    let host = Host::of(stage.node("node-1")?)?;
    let agent = host.start(&stage, "node-1", &[])?;
    host.list("10.244.1.0/24")?;
    let (list, plugin) = (fs::read(host.place())?, fs::read(program("heddle-cni")?)?);
    let whole = || {
        comes_to_say(&host.place(), &list)?;
        comes_to_say(&host.plugin(), &plugin)?;
        comes_to_say(&host.at("bin/loopback"), &plugin)
    };
    whole()?;
    fs::write(host.place(), "{}")?;
    whole()?;
    fs::remove_file(host.place())?;
    whole()?;
    agent.prints("others change the plugin's files; they are put back")?;
    fs::write(host.plugin(), "no program")?;
    whole()?;
    fs::remove_file(host.at("bin/loopback"))?;
    whole()?;
    fs::remove_dir_all(host.at("net.d"))?;
    whole()?;
    fs::rename(host.at("bin"), host.at("old-bin"))?;
    whole()?;
    agent.prints("others do not change the plugin's files any more")?;
    let names = |name: &str| -> Result<Vec<_>, Box<dyn Error>> {
        let names = fs::read_dir(host.at(name))?.map(|entry| Ok(entry?.file_name()));
        let mut names = names.collect::<Result<Vec<_>, std::io::Error>>()?;
        names.sort();
        Ok(names)
    };
    assert_eq!(
        (names("bin")?.as_slice(), names("net.d")?.as_slice()),
        (&["heddle-cni".into(), "loopback".into()][..], &["10-heddle.conflist".into()][..])
    );
    Ok(())
}

/// cni:#24: a runtime takes the first by name, whoever wrote it.
#[test]
fn another_configuration_that_comes_first_is_named_or_set_aside() -> Outcomes {
    let stage = Stage::new(&["node-1"])?;
    let host = Host::of(stage.node("node-1")?)?;
    fs::create_dir(host.at("net.d"))?;
    let first = host.at("net.d/05-other.conflist");
    fs::write(&first, "{}")?;
    fs::write(host.at("net.d/87-later.conflist"), "{}")?;
    let mut agent = host.start(&stage, "node-1", &[])?;
    host.list("10.244.1.0/24")?;
    agent.prints(&format!("the container runtime takes {} before ours", first.display()))?;
    fs::remove_file(&first)?;
    agent.prints(&format!("no longer so: the container runtime takes {}", first.display()))?;
    assert!(!agent.stderr().contains("87-later") && !agent.stdout().contains("87-later"));
    agent.kill()?;
    fs::write(&first, "{}")?;
    let agent = host.start(&stage, "node-1", &["--cni-exclusive", "true"])?;
    agent.prints(&format!("{} is set aside", first.display()))?;
    eventually("the later one aside, too", PATIENCE, || {
        let aside = [&first, &host.at("net.d/87-later.conflist")].map(|path| path.exists());
        if aside == [false; 2] { Ok(()) } else { Err(format!("{aside:?}")) }
    })?;
    assert!(host.at("net.d/05-other.conflist.set-aside-by-heddle").exists() && host.place().exists());
    Ok(())
}

/// cni:#21: what does not fit leaves what works, and what cannot be written stops nothing else.
#[test]
fn a_full_or_read_only_folder_is_said_and_everything_else_works() -> Outcomes {
    let stage = Stage::new(&["node-1", "node-2"])?;
    let one = stage.node("node-1")?;
    let host = Host::of(one)?;
    let built = fs::read(program("heddle-cni")?)?;
    let full = Scratch::of_size(built.len() as u64 * 3 / 2)?;
    fs::write(full.path().join("heddle-cni"), &built)?;
    other_version(&host.at("other-version"))?;
    let frozen = Scratch::read_only()?;
    let [other, bin, conf] = [host.at("other-version"), full.path(), frozen.path()]
        .map(|path| path.to_string_lossy().into_owned());
    let alive = host.text("alive");
    let flags = [
        ["--cni-program", &other],
        ["--cni-bin-dir", &bin],
        ["--cni-conf-dir", &conf],
        ["--cni-heartbeat", &alive],
    ];
    let flags = flags.concat();
    let agent = stage.agent("node-1", &flags)?;
    agent.prints("the plugin is not in place as it should be, and it is tried again: install")?;
    agent.prints("No space left on device")?;
    agent.prints(
        "the plugin's configuration is not in place as it should be, and it is tried again: install",
    )?;
    agent.prints("Read-only file system")?;
    comes_to(one, &towards(&[stage.node("node-2")?]))?;
    assert!(fs::read(full.path().join("heddle-cni"))? == built, "the old one works");
    fs::remove_file(full.path().join("heddle-cni"))?;
    agent.prints("no longer so: the plugin is not in place as it should be")?;
    comes_to_say(&full.path().join("heddle-cni"), &fs::read(host.at("other-version"))?)
}
