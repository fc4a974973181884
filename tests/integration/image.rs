//! The container image: what is in it, that it is the same each time, and that a node of a cluster runs from it alone.

#[path = "image/node.rs"]
mod node;

use heddle_tests::image::{Image, PROGRAMS};
use heddle_tests::manifests::{folder, render};
use heddle_tests::namespace::Namespace;
use heddle_tests::process::Invocation;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// Made once for all tests; none of them changes it.
fn image() -> Outcome<&'static Image> {
    static IMAGE: OnceLock<Result<Image, String>> = OnceLock::new();
    Ok(IMAGE
        .get_or_init(|| Image::assemble().map_err(|error| error.to_string()))
        .as_ref()
        .map_err(Clone::clone)?)
}

/// Every file of an unpacked image: what it is and who may do what with it, whose it is, and when it was changed.
fn files(root: &Path) -> Outcome<BTreeMap<String, (u32, u32, u32, i64)>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let about = entry.metadata()?;
        let facts = (about.permissions().mode(), about.uid(), about.gid(), about.mtime());
        files.insert(entry.file_name().to_string_lossy().into_owned(), facts);
    }
    Ok(files)
}

#[test]
fn the_image_holds_two_programs_by_three_names_and_the_licence() -> Outcome {
    let image = image()?;
    let root = image.root();
    let program = |name: &str| (name.to_owned(), (0o100_755, 0, 0, 0));
    let mut expected: BTreeMap<_, _> = PROGRAMS.into_iter().map(program).collect();
    expected.insert("LICENSE".to_owned(), (0o100_644, 0, 0, 0));
    expected.insert("heddle-proxy".to_owned(), (0o120_777, 0, 0, 0));
    assert_eq!(files(&root)?, expected);
    assert_eq!(fs::read_link(root.join("heddle-proxy"))?, Path::new("heddle-node"));
    assert_eq!(fs::read(root.join("LICENSE"))?, fs::read(folder().join("../LICENSE"))?);
    let configuration = image.configuration()?;
    let label = |name: &str| {
        configuration["config"]["Labels"][format!("org.opencontainers.image.{name}")]
            .as_str()
            .unwrap_or_default()
    };
    let said = ["title", "source", "version", "licenses"].map(label);
    let source = env!("CARGO_PKG_REPOSITORY");
    assert_eq!(said, ["heddle", source, env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_LICENSE")]);
    assert_ne!(label("revision"), "");
    for unset in ["Entrypoint", "Cmd", "User", "Volumes"] {
        assert_eq!(configuration["config"][unset], Value::Null, "{unset}");
    }
    Ok(())
}

/// Under the name that kubelet and runtimes make of the one in the manifests.
#[test]
fn the_image_has_the_name_that_the_manifests_ask_for() -> Outcome {
    let image = image()?;
    let tags = &image.manifest()?[0]["RepoTags"];
    let objects = render("any")?;
    let sets = objects.iter().filter(|object| object["kind"] == "DaemonSet");
    let images: Vec<_> = sets.map(|set| &set["spec"]["template"]["spec"]["containers"][0]["image"]).collect();
    assert_eq!(images.len(), 2);
    for asked in images {
        let full = format!("docker.io/library/{}", asked.as_str().unwrap_or_default());
        assert_eq!(tags, &json!([full]));
    }
    Ok(())
}

/// Whoever builds it, whenever: rights and times of the files that it is made from are not in it.
#[test]
fn the_same_programs_make_the_same_image() -> Outcome {
    let image = image()?;
    for name in PROGRAMS {
        let program = image.programs().join(name);
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700))?;
        File::open(&program)?.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000))?;
    }
    let again = image.assemble_again("again.tar")?;
    assert!(fs::read(image.archive())? == fs::read(again)?, "the archives differ");
    Ok(())
}

#[test]
fn every_program_starts_where_there_is_nothing_else() -> Outcome {
    let image = image()?;
    let root = image.root();
    let host = Namespace::new("node")?;
    for name in ["heddle-cni", "heddle-node", "heddle-proxy"] {
        let program = format!("/{name}");
        let chroot =
            Invocation::foreign("chroot").args([root.as_os_str(), program.as_ref(), "--version".as_ref()]);
        let output = chroot.run(&host)?;
        assert_eq!(
            output.stdout.trim(),
            format!("{name} {}", env!("CARGO_PKG_VERSION")),
            "{}",
            output.stderr
        );
    }
    Ok(())
}
