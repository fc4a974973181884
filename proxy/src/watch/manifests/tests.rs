//! Each test has a folder of its own. `next` blocks until the kernel has told of the change that the test has just
//! made, so nothing here waits for a time.

use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;
use crate::model::{Model, ObjectName};

struct Bench {
    folder: TempDir,
    manifests: Manifests,
    model: Model,
}

impl Bench {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let mut manifests = Manifests::open(folder.path(), "node-a").unwrap();
        let mut model = Model::default();
        manifests.first().unwrap().into_iter().for_each(|change| model.apply(change));
        Self { folder, manifests, model }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn next(&mut self) -> Vec<Change> {
        let changes = self.manifests.next().unwrap();
        changes.iter().cloned().for_each(|change| self.model.apply(change));
        changes
    }

    /// The names of the Services and their addresses.
    fn services(&self) -> Vec<String> {
        let services = self.model.services();
        services.map(|(name, service)| format!("{} {}", name.name, service.cluster_ips[0])).collect()
    }
}

fn service(name: &str, address: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{clusterIP: {address}}}\n"
    )
}

/// kp:A13
#[test]
fn every_kind_is_complete_after_the_first_reading_even_of_an_empty_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mut manifests = Manifests::open(folder.path(), "node-a").unwrap();
    assert_eq!(
        manifests.first().unwrap(),
        [Kind::Service, Kind::Slice, Kind::Node, Kind::ServiceCidr].map(Change::Complete)
    );
}

#[test]
fn the_first_reading_gives_all_files_in_order_of_name() {
    let bench = Bench::new(&[
        ("b.yaml", &service("b", "10.0.0.2")),
        ("a.yaml", &service("a", "10.0.0.1")),
        ("notes.txt", "not a manifest"),
    ]);
    assert_eq!(bench.services(), ["a 10.0.0.1", "b 10.0.0.2"]);
    assert!(bench.model.ready());
}

#[test]
fn a_written_file_is_read_when_its_writer_closes_it() {
    let mut bench = Bench::new(&[]);
    fs::write(bench.path("a.yaml"), service("a", "10.0.0.1") + &service("b", "10.0.0.2")).unwrap();
    bench.next();
    assert_eq!(bench.services(), ["a 10.0.0.1", "b 10.0.0.2"]);
    fs::write(bench.path("a.yaml"), service("a", "10.0.0.1") + &service("b", "10.0.0.3")).unwrap();
    assert_eq!(bench.next().len(), 1, "the Service that is the same is not given again");
    assert_eq!(bench.services(), ["a 10.0.0.1", "b 10.0.0.3"]);
}

#[test]
fn half_a_file_is_never_read() {
    let mut bench = Bench::new(&[("a.yaml", &(service("a", "10.0.0.1") + &service("b", "10.0.0.2")))]);
    let mut half_written = fs::File::create(bench.path("a.yaml")).unwrap();
    fs::write(bench.path("c.yaml"), service("c", "10.0.0.3")).unwrap();
    bench.next();
    assert_eq!(bench.services(), ["a 10.0.0.1", "b 10.0.0.2", "c 10.0.0.3"]);
    io::Write::write_all(&mut half_written, service("b", "10.0.0.9").as_bytes()).unwrap();
    drop(half_written);
    bench.next();
    assert_eq!(bench.services(), ["b 10.0.0.9", "c 10.0.0.3"]);
}

#[test]
fn files_are_renamed_into_place_and_removed() {
    let mut bench =
        Bench::new(&[("a.yaml", &service("a", "10.0.0.1")), ("b.yaml", &service("b", "10.0.0.2"))]);
    fs::write(bench.path(".new"), service("a", "10.0.0.7")).unwrap();
    fs::rename(bench.path(".new"), bench.path("a.yaml")).unwrap();
    bench.next();
    assert_eq!(bench.services(), ["a 10.0.0.7", "b 10.0.0.2"]);
    fs::rename(bench.path("a.yaml"), bench.path("z.yaml")).unwrap();
    let changes = bench.next();
    assert!(!changes.iter().any(|change| matches!(change, Change::ServiceGone(_))), "{changes:?}");
    assert_eq!(bench.services(), ["a 10.0.0.7", "b 10.0.0.2"]);
    fs::remove_file(bench.path("b.yaml")).unwrap();
    assert_eq!(bench.next(), [Change::ServiceGone(ObjectName::new("default", "b"))]);
}

/// What the kubelet does with a mounted `ConfigMap`.
#[test]
fn a_swapped_data_link_is_followed() {
    let mut bench = Bench::new(&[]);
    for (version, text) in [("..1", service("a", "10.0.0.1")), ("..2", service("a", "10.0.0.2"))] {
        fs::create_dir(bench.path(version)).unwrap();
        fs::write(bench.path(version).join("a.yaml"), text).unwrap();
    }
    symlink("..1", bench.path("..data")).unwrap();
    symlink("..data/a.yaml", bench.path("a.yaml")).unwrap();
    bench.next();
    assert_eq!(bench.services(), ["a 10.0.0.1"]);
    symlink("..2", bench.path("..data_tmp")).unwrap();
    fs::rename(bench.path("..data_tmp"), bench.path("..data")).unwrap();
    bench.next();
    assert_eq!(bench.services(), ["a 10.0.0.2"]);
}

#[test]
fn a_hard_link_is_read_without_a_writer() {
    let mut bench = Bench::new(&[]);
    let elsewhere = tempfile::tempdir_in(bench.folder.path()).unwrap();
    fs::write(elsewhere.path().join("x"), service("a", "10.0.0.1")).unwrap();
    fs::hard_link(elsewhere.path().join("x"), bench.path("a.yaml")).unwrap();
    bench.next();
    assert_eq!(bench.services(), ["a 10.0.0.1"]);
}

#[test]
fn a_broken_file_keeps_its_objects_and_the_others_are_served() {
    let mut bench =
        Bench::new(&[("a.yaml", &service("a", "10.0.0.1")), ("b.yaml", &service("b", "10.0.0.2"))]);
    fs::write(bench.path("a.yaml"), "kind: [").unwrap();
    fs::write(bench.path("b.yaml"), service("b", "10.0.0.3") + &service("c", "10.0.0.999")).unwrap();
    bench.next();
    assert_eq!(bench.services(), ["a 10.0.0.1", "b 10.0.0.3"]);
}

#[test]
fn a_folder_that_goes_away_is_waited_for_with_its_objects_kept() {
    let home = tempfile::tempdir().unwrap();
    let (path, away) = (home.path().join("here"), home.path().join("away"));
    fs::create_dir(&path).unwrap();
    fs::write(path.join("a.yaml"), service("a", "10.0.0.1")).unwrap();
    let mut manifests = Manifests::open(&path, "node-a").unwrap();
    manifests.first().unwrap();
    fs::rename(&path, &away).unwrap();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("b.yaml"), service("b", "10.0.0.2")).unwrap();
    let changes = manifests.next().unwrap();
    assert!(
        matches!(&changes[0], Change::ServiceApplied(name, _) if *name == ObjectName::new("default", "b"))
    );
    assert_eq!(changes[1], Change::ServiceGone(ObjectName::new("default", "a")));
}

#[test]
fn what_is_no_readable_folder_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [folder.path().join("missing"), file] {
        let error = Manifests::open(&path, "node-a").unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("cannot read the manifests folder {}: ", path.display())),
            "{error}"
        );
    }
}

#[test]
fn every_node_of_a_folder_counts_where_all_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        let text = format!("apiVersion: v1\nkind: Node\nmetadata: {{name: node-{name}}}\n");
        fs::write(folder.path().join(format!("{name}.yaml")), text).unwrap();
    }
    let names = |mut manifests: Manifests| {
        let changes = manifests.first().unwrap().into_iter().filter_map(|change| match change {
            Change::NodeApplied(node) => Some(node.name.to_string()),
            _ => None,
        });
        changes.collect::<BTreeSet<_>>()
    };
    let all = names(Manifests::open_with_all_nodes(folder.path()).unwrap());
    assert_eq!(all, ["node-a", "node-b"].map(str::to_owned).into());
    let one = names(Manifests::open(folder.path(), "node-b").unwrap());
    assert_eq!(one, ["node-b"].map(str::to_owned).into());
}
