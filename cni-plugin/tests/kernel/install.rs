//! `heddle-cni install`: what runtimes find, at every moment.

use heddle_tests::namespace::Namespace;
use heddle_tests::process::{Invocation, Output};
use heddle_tests::scratch::Scratch;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

const BUILT: &str = env!("CARGO_BIN_EXE_heddle-cni");
const LIST: &str = include_str!("../../../conf/10-heddle.conflist");

/// The two folders of a node, and a configuration to install.
struct Place {
    scratch: Scratch,
    namespace: Namespace,
}

impl Place {
    fn new() -> Self {
        let place = Self { scratch: Scratch::new().unwrap(), namespace: Namespace::new("node").unwrap() };
        fs::write(place.path("10-heddle.conflist"), LIST).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn run(&self, program: &Path, command: &str, more: &[&str]) -> Output {
        let folders = [("--bin-dir", self.path("bin")), ("--conf-dir", self.path("net.d"))];
        let folders =
            folders.iter().flat_map(|(option, path)| [(*option).to_owned(), path.display().to_string()]);
        let call = Invocation::foreign(program).args([command]).args(folders).args(more);
        call.run(&self.namespace).unwrap()
    }

    fn install(&self, more: &[&str]) -> Output {
        let list = self.path("10-heddle.conflist").display().to_string();
        self.run(Path::new(BUILT), "install", &[&["--config", &list], more].concat())
    }

    /// Names, modes and inodes: what a write would change.
    fn files(&self, folder: &str) -> Vec<(String, u32, u64)> {
        let entries = fs::read_dir(self.path(folder)).unwrap().map(Result::unwrap);
        let mut files: Vec<_> = entries
            .map(|entry| {
                let found = entry.metadata().unwrap();
                (entry.file_name().into_string().unwrap(), found.permissions().mode() & 0o7777, found.ino())
            })
            .collect();
        files.sort();
        files
    }

    fn names(&self, folder: &str) -> Vec<String> {
        self.files(folder).into_iter().map(|(name, ..)| name).collect()
    }
}

/// cni:#21, cni:#23: whole files with the right modes, nothing beside them, and nothing touched the second time.
#[test]
fn program_and_configuration_are_put_in_place_once() {
    let place = Place::new();
    let first = place.install(&[]);
    assert!(first.status.success(), "{}", first.stderr);
    assert_eq!(first.stdout.matches(": installed").count(), 3, "{}", first.stdout);
    let (programs, configurations) = (place.files("bin"), place.files("net.d"));
    assert_eq!(place.names("bin"), ["heddle-cni", "loopback"]);
    assert_eq!((programs[0].1, programs[0].2, configurations[0].1), (0o755, programs[1].2, 0o644));
    assert_eq!(fs::read(place.path("bin/heddle-cni")).unwrap(), fs::read(BUILT).unwrap());
    assert_eq!(fs::read_to_string(place.path("net.d/10-heddle.conflist")).unwrap(), LIST);
    let second = place.install(&[]);
    assert_eq!(second.stdout.matches(": is so already").count(), 3, "{}", second.stdout);
    assert_eq!((place.files("bin"), place.files("net.d")), (programs, configurations));
}

/// cni:#24: the first configuration by name wins at a runtime, whoever wrote it.
#[test]
fn other_configurations_are_set_aside_and_brought_back() {
    let place = Place::new();
    fs::create_dir_all(place.path("net.d/cni.d")).unwrap();
    for name in ["05-other.conflist", "notes.txt", "99-loopback.conf"] {
        fs::write(place.path("net.d").join(name), name).unwrap();
    }
    let before = place.names("net.d");
    assert!(place.install(&[]).status.success());
    assert_eq!(place.names("net.d").len(), before.len() + 1, "not without being asked");
    let exclusive = place.install(&["--exclusive"]);
    assert!(exclusive.status.success(), "{}", exclusive.stderr);
    let read = |name: &String| [".conf", ".conflist", ".json"].iter().any(|end| name.ends_with(end));
    let left: Vec<_> = place.names("net.d").into_iter().filter(read).collect();
    assert_eq!(left, ["10-heddle.conflist"]);
    let gone = place.run(Path::new(BUILT), "uninstall", &[]);
    assert!(gone.status.success(), "{}", gone.stderr);
    assert_eq!((place.names("net.d"), place.names("bin").len()), (before, 0));
    assert!(place.run(Path::new(BUILT), "uninstall", &[]).status.success(), "again");
}

/// A loopback plugin that works is left; ours comes where there is none.
#[test]
fn another_loopback_plugin_stays() {
    let place = Place::new();
    fs::create_dir_all(place.path("bin")).unwrap();
    fs::write(place.path("bin/loopback"), "somebody's").unwrap();
    let said = place.install(&[]).stdout;
    assert!(said.contains("loopback: another program, left as it is"), "{said}");
    place.run(Path::new(BUILT), "uninstall", &[]);
    assert_eq!(fs::read_to_string(place.path("bin/loopback")).unwrap(), "somebody's");
}

/// Nothing is done for a configuration that a runtime would not read or we would refuse, nor for an option that is none.
#[test]
fn what_makes_no_sense_is_refused_before_anything_is_done() {
    let place = Place::new();
    for (name, text, says) in [
        ("a.txt", LIST, "its name does not end in .conflist"),
        ("b.conflist", "{", "EOF while parsing"),
        (
            "c.conflist",
            r#"{"name": "x", "plugins": [{"type": "bridge"}]}"#,
            "no plugin in it has the type heddle-cni",
        ),
        ("d.conflist", r#"{"name": "x", "plugins": [{"type": "heddle-cni", "mtu": 5}]}"#, "mtu"),
    ] {
        fs::write(place.path(name), text).unwrap();
        let path = place.path(name).display().to_string();
        let refused = place.run(Path::new(BUILT), "install", &["--config", &path]);
        assert!(!refused.status.success() && refused.stderr.contains(says), "{name}: {}", refused.stderr);
    }
    assert!(!place.run(Path::new(BUILT), "install", &["--fast"]).status.success());
    assert!(!place.path("bin").exists() && !place.path("net.d").exists());
}

#[test]
fn people_are_told_the_version_and_the_usage() {
    let place = Place::new();
    let said =
        |argument: &str| Invocation::foreign(BUILT).args([argument]).run(&place.namespace).unwrap().stdout;
    assert_eq!(said("--version"), concat!("heddle-cni ", env!("CARGO_PKG_VERSION"), "\n"));
    for command in ["install", "uninstall", "import-host-local"] {
        assert!(said("--help").contains(&format!("heddle-cni {command}")), "{command}");
    }
}

/// cni:#21: two versions replace each other while a runtime starts the program again and again; it always starts.
#[test]
fn a_program_that_runs_is_replaced() {
    let place = Place::new();
    let other = place.path("other-version");
    // A program with something behind its end is another file, and runs the same.
    fs::write(&other, [fs::read(BUILT).unwrap(), b"another version".to_vec()].concat()).unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755)).unwrap();
    place.install(&[]);
    let (program, namespace) = (place.path("bin/heddle-cni"), place.namespace.clone());
    let (done, stop) = std::sync::mpsc::channel::<()>();
    let runtime = std::thread::spawn(move || {
        let mut started = 0;
        while stop.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            let version = Invocation::foreign(program.clone()).env("CNI_COMMAND", "VERSION").input("{}");
            let output = version.run(&namespace).unwrap();
            assert!(output.status.success() && output.stdout.contains("supportedVersions"), "{output:?}");
            started += 1;
        }
        started
    });
    for _ in 0..20 {
        assert!(place.run(&other, "install", &[]).stdout.contains("heddle-cni: replaced"));
        assert!(place.run(Path::new(BUILT), "install", &[]).stdout.contains("heddle-cni: replaced"));
    }
    drop(done);
    assert!(runtime.join().unwrap() > 0);
    assert_eq!(place.names("bin"), ["heddle-cni", "loopback"]);
}
