use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::super::documents::Place;
use super::*;
use crate::model::{Kind, ObjectName, Service};

fn key(name: &str) -> Key {
    Key { kind: Kind::Service, name: ObjectName::new("default", name) }
}

fn object(version: u8) -> Object {
    let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, version));
    Object::Service(Service { cluster_ips: vec![address], ..Service::default() }.into())
}

fn parsed(objects: &[(&str, u8)]) -> Parsed {
    let objects = objects.iter().map(|&(name, version)| (key(name), object(version))).collect();
    Parsed { objects, ..Parsed::default() }
}

fn with_mistake(mut parsed: Parsed, key: Option<Key>) -> Parsed {
    parsed.mistakes.push(Mistake { place: Place::default(), key, message: "bad".to_owned() });
    parsed
}

fn bad_x(reason: Reason) -> Problem {
    Problem { subject: Subject::Object(key("x")), reason, text: "a.yaml, the file: bad".to_owned() }
}

fn applied(name: &str, version: u8) -> Change {
    object(version).applied(key(name))
}

fn gone(name: &str) -> Change {
    key(name).gone()
}

#[test]
fn only_differences_are_given() {
    let mut roster = Roster::default();
    let first = roster.replace("a.yaml", parsed(&[("x", 1), ("y", 1)]));
    assert_eq!(first.changes, [applied("x", 1), applied("y", 1)]);
    assert_eq!(roster.replace("a.yaml", parsed(&[("x", 1), ("y", 1)])), Update::default());
    let second = roster.replace("a.yaml", parsed(&[("y", 2), ("z", 1)]));
    assert_eq!(second.changes, [applied("y", 2), applied("z", 1), gone("x")]);
    assert_eq!(roster.remove("a.yaml").changes, [gone("y"), gone("z")]);
    assert_eq!(roster.remove("a.yaml"), Update::default());
}

#[test]
fn an_object_with_a_mistake_keeps_its_last_good_state() {
    let mut roster = Roster::default();
    roster.replace("a.yaml", parsed(&[("x", 1), ("y", 1), ("z", 1)]));
    let update = roster.replace("a.yaml", with_mistake(parsed(&[("y", 2)]), Some(key("x"))));
    assert_eq!(update.changes, [applied("y", 2), gone("z")]);
    assert_eq!(update.news, [News::Began(bad_x(Reason::OBJECT_REFUSED))]);
    let corrected = roster.replace("a.yaml", parsed(&[("x", 1), ("y", 2)]));
    let news = vec![News::Ended(bad_x(Reason::OBJECT_REFUSED))];
    assert_eq!(corrected, Update { news, ..Update::default() });
}

#[test]
fn a_file_with_an_unreadable_document_forgets_nothing() {
    let mut roster = Roster::default();
    roster.replace("a.yaml", parsed(&[("x", 1), ("y", 1)]));
    assert_eq!(roster.replace("a.yaml", with_mistake(parsed(&[("y", 2)]), None)).changes, [applied("y", 2)]);
    assert_eq!(roster.replace("a.yaml", parsed(&[("y", 2)])).changes, [gone("x")]);
}

#[test]
fn a_problem_is_reported_once_until_it_is_gone() {
    let mut roster = Roster::default();
    let bad = || with_mistake(parsed(&[]), None);
    let subject = Subject::File("a.yaml".into());
    let problem =
        Problem { subject, reason: Reason::OBJECT_REFUSED, text: "a.yaml, the file: bad".to_owned() };
    let (began, ended) = ([News::Began(problem.clone())], [News::Ended(problem)]);
    assert_eq!(roster.replace("a.yaml", bad()).news, began);
    assert_eq!(roster.replace("a.yaml", bad()).news, []);
    assert_eq!(roster.replace("a.yaml", parsed(&[])).news, ended);
    assert_eq!(roster.replace("a.yaml", bad()).news, began);
    assert_eq!(roster.remove("a.yaml").news, ended);
}

#[test]
fn an_object_that_does_without_a_field_is_taken_and_reported_once() {
    let mut roster = Roster::default();
    let lacking = |version| {
        let remark = Mistake { place: Place::default(), key: Some(key("x")), message: "bad".to_owned() };
        Parsed { remarks: vec![remark], ..parsed(&[("x", version)]) }
    };
    roster.replace("a.yaml", parsed(&[("x", 1), ("y", 1)]));
    let update = roster.replace("a.yaml", lacking(2));
    assert_eq!(update.changes, [applied("x", 2), gone("y")]);
    assert_eq!(update.news, [News::Began(bad_x(Reason::FIELD_IGNORED))]);
    assert_eq!(roster.replace("a.yaml", lacking(2)), Update::default());
}

#[test]
fn what_is_not_namespaced_comes_first_and_goes_too() {
    let node = Change::NodeApplied(Node::default());
    let ranges = |name: &str| Change::ServiceCidrApplied(name.into(), vec![]);
    let changes = vec![applied("x", 1), Change::ServiceCidrGone("b".into()), node.clone(), ranges("a")];
    let settled = [ranges("a"), node, applied("x", 1), Change::ServiceCidrGone("b".into())];
    assert_eq!(settle(changes), settled);
    assert_eq!(settle(vec![Change::NodeGone("n".into())]), [Change::NodeGone("n".into())]);
}

#[test]
fn the_first_file_by_name_counts_and_the_other_is_reported() {
    let mut roster = Roster::default();
    assert_eq!(roster.replace("b.yaml", parsed(&[("x", 2)])).changes, [applied("x", 2)]);
    let update = roster.replace("a.yaml", parsed(&[("x", 1)]));
    assert_eq!(update.changes, [applied("x", 1)]);
    let text = "Service default/x is in b.yaml too; the one in a.yaml counts".to_owned();
    assert_eq!(update.remarks, [("a.yaml".into(), text)]);
    assert_eq!(roster.replace("b.yaml", parsed(&[("x", 3)])), Update::default());
    assert_eq!(roster.remove("a.yaml").changes, [applied("x", 3)]);
    assert_eq!(roster.remove("b.yaml").changes, [gone("x")]);
}

#[test]
fn an_object_that_moves_between_files_is_not_gone_in_between() {
    let slice = Change::SliceGone(ObjectName::new("default", "x-1"));
    let changes = vec![slice.clone(), gone("x"), gone("y"), applied("x", 1), applied("z", 1)];
    assert_eq!(settle(changes), [applied("z", 1), applied("x", 1), gone("y"), slice]);
}

#[derive(Clone, Debug)]
enum Event {
    Replace(&'static str, Vec<(&'static str, u8)>),
    Remove(&'static str),
}

fn event() -> impl Strategy<Value = Event> {
    let file = || prop::sample::select(vec!["a.yaml", "b.yaml", "c.json"]);
    let object = (prop::sample::select(vec!["x", "y", "z"]), 0u8..3);
    prop_oneof![
        3 => (file(), prop::collection::vec(object, 0..4)).prop_map(|(file, objects)| Event::Replace(file, objects)),
        1 => file().prop_map(Event::Remove),
    ]
}

proptest! {
    #[test]
    fn the_changes_add_up_to_what_the_first_file_of_each_object_says(events in prop::collection::vec(event(), 0..30)) {
        let mut roster = Roster::default();
        let mut files: BTreeMap<&str, BTreeMap<Key, Object>> = BTreeMap::new();
        let mut replayed: BTreeMap<ObjectName, Arc<Service>> = BTreeMap::new();
        for event in events {
            let update = match event {
                Event::Replace(file, objects) => {
                    let parsed = parsed(&objects);
                    files.insert(file, parsed.objects.clone());
                    roster.replace(file, parsed)
                }
                Event::Remove(file) => {
                    files.remove(file);
                    roster.remove(file)
                }
            };
            for change in update.changes {
                match change {
                    Change::ServiceApplied(name, service) => {
                        let before = replayed.insert(name, service.clone());
                        prop_assert_ne!(before, Some(service), "a change that changes nothing");
                    }
                    Change::ServiceGone(name) => prop_assert!(replayed.remove(&name).is_some()),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            let mut expected: BTreeMap<ObjectName, Arc<Service>> = BTreeMap::new();
            for (key, object) in files.values().flatten() {
                let Object::Service(service) = object else { unreachable!() };
                expected.entry(key.name.clone()).or_insert_with(|| service.clone());
            }
            prop_assert_eq!(&replayed, &expected);
        }
    }
}
