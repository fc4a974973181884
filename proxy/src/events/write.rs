//! An Event as JSON.
//!
//! Pure. Invariant: what the API server checks of an Event holds: lengths, names, and that its namespace is that of its object.

use crate::convert::Key;
use crate::model::Kind;
use crate::problems::{Problem, Reason};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Who says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reporter {
    /// The program. Not kube-proxy, since reasons and words are our own.
    pub controller: &'static str,
    /// What it does when it starts, as Events have it.
    pub start: &'static str,
    /// The node that it runs on.
    pub node: String,
}

impl Reporter {
    /// heddle-proxy on a node. Its start is called as kube-proxy's.
    pub fn proxy(node: &str) -> Self {
        Self { controller: "heddle-proxy", start: "StartKubeProxy", node: node.to_owned() }
    }
}

/// The longest text of an Event, in bytes.
const LONGEST_NOTE: usize = 1024;
/// The longest name of who says it, in bytes.
const LONGEST_INSTANCE: usize = 128;
/// What is left for the object's name in an Event's name.
const LONGEST_NAME: usize = 253 - 17;

/// Where the API server has objects of a kind: group and version as in paths, as in objects, and the plural.
pub(super) fn resource(kind: Kind) -> (&'static str, &'static str, &'static str) {
    match kind {
        Kind::Service => ("/api/v1", "v1", "services"),
        Kind::Slice => ("/apis/discovery.k8s.io/v1", "discovery.k8s.io/v1", "endpointslices"),
        Kind::Node => ("/api/v1", "v1", "nodes"),
        Kind::ServiceCidr => ("/apis/networking.k8s.io/v1", "networking.k8s.io/v1", "servicecidrs"),
        Kind::Pod => ("/api/v1", "v1", "pods"),
    }
}

/// The namespace of an object's Events; those of what has no namespace are in `default`.
pub(super) fn namespace(key: &Key) -> &str {
    if key.name.namespace.is_empty() { "default" } else { &key.name.namespace }
}

/// An Event and its name.
#[derive(Debug, PartialEq)]
pub(super) struct Written {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) object: Value,
}

/// The Event of a problem of the object with this uid. Each node gives it the same name, unless it is the node's own affair.
pub(super) fn problem(problem: &Problem, key: &Key, uid: &str, by: (&Reporter, Timestamp)) -> Written {
    let Reason { name: reason, action, is_of_node } = problem.reason;
    let place = if is_of_node { &by.0.node } else { "" };
    let hash = hash(&[uid, reason, &problem.text, place]);
    let note = cut(&problem.text, LONGEST_NOTE);
    let says = json!({"action": action, "reason": reason, "type": "Warning", "note": note});
    event(key, uid, hash, says, by)
}

/// The Event of a start, about the node. Its uid is its name, as in what kubelets say of nodes and kubectl looks for.
pub(super) fn starting(node: &Key, by: (&Reporter, Timestamp)) -> Written {
    let hash = hash(&[by.0.controller, &by.0.node, &by.1.as_nanosecond().to_string()]);
    let says = json!({"action": by.0.start, "reason": "Starting", "type": "Normal", "note": ""});
    event(node, &node.name.name, hash, says, by)
}

/// The Event of a start that failed, about the node: the same one each time that it fails so.
pub(super) fn not_started(node: &Key, (reason, note): (&str, &str), by: (&Reporter, Timestamp)) -> Written {
    let hash = hash(&[&by.0.node, reason, note]);
    let note = cut(note, LONGEST_NOTE);
    let says = json!({"action": by.0.start, "reason": reason, "type": "Warning", "note": note});
    event(node, &node.name.name, hash, says, by)
}

fn event(key: &Key, uid: &str, hash: u64, says: Value, (by, now): (&Reporter, Timestamp)) -> Written {
    let (_, version, _) = resource(key.kind);
    let namespace = namespace(key).to_owned();
    let name = format!("{}.{hash:016x}", cut(&key.name.name, LONGEST_NAME));
    let mut regarding = json!({
        "apiVersion": version, "kind": key.kind.to_string(), "name": &*key.name.name, "uid": uid,
    });
    if !key.name.namespace.is_empty() {
        regarding["namespace"] = json!(&*key.name.namespace);
    }
    let mut object = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": name, "namespace": namespace},
        "eventTime": micro_time(now), "reportingController": by.controller,
        "reportingInstance": cut(&format!("{}-{}", by.controller, by.node), LONGEST_INSTANCE), "regarding": regarding,
    });
    if let (Some(object), Value::Object(says)) = (object.as_object_mut(), says) {
        object.extend(says);
    }
    Written { namespace, name, object }
}

/// The change of an Event that is said again: the problem began so often by now.
pub(super) fn again(times: u32, now: Timestamp) -> Value {
    json!({"series": {"count": times, "lastObservedTime": micro_time(now)}})
}

/// Kubernetes' `MicroTime`: six digits, no more and no less.
fn micro_time(now: Timestamp) -> String {
    format!("{now:.6}")
}

fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// FNV-1a: the same on every node and in every version, which the hashes of the standard library do not promise.
fn hash(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ObjectName;
    use crate::problems::Subject;

    const AT: Timestamp = Timestamp::UNIX_EPOCH;

    fn written(reason: Reason, text: &str, node: &str) -> Written {
        let key = Key { kind: Kind::Service, name: ObjectName::new("shop", &"a".repeat(63)) };
        let one = Problem { subject: Subject::Object(key.clone()), reason, text: text.to_owned() };
        problem(&one, &key, "u-1", (&Reporter::proxy(node), AT))
    }

    #[test]
    fn a_problem_of_an_object_is_one_event_for_all_nodes_and_one_of_a_node_is_its_own() {
        let name = |reason, text, node| written(reason, text, node).name;
        let conflict = name(Reason::FRONTEND_CONFLICT, "x", "node-1");
        assert_eq!(conflict, name(Reason::FRONTEND_CONFLICT, "x", "node-2"));
        assert_ne!(conflict, name(Reason::FRONTEND_CONFLICT, "y", "node-1"));
        for reason in [Reason::FRONTEND_SET_ASIDE, Reason::FAILED_TO_START_SERVICE_HEALTHCHECK] {
            assert_ne!(name(reason, "x", "node-1"), name(reason, "x", "node-2"));
        }
    }

    #[test]
    fn the_longest_names_and_texts_are_cut_to_what_the_api_server_takes() {
        let event = written(Reason::OBJECT_REFUSED, &"ü".repeat(2000), &"n".repeat(253));
        let length = |field: &str| event.object[field].as_str().unwrap().len();
        assert_eq!((length("note"), length("reportingInstance"), event.name.len()), (1024, 128, 63 + 17));
        let key = Key { kind: Kind::Slice, name: ObjectName::new("shop", &"a".repeat(253)) };
        assert_eq!(starting(&key, (&Reporter::proxy("n"), AT)).name.len(), 253);
    }

    #[test]
    fn a_start_is_said_of_the_node_as_kube_proxy_says_it() {
        let node = Key { kind: Kind::Node, name: ObjectName::new("", "node-1") };
        let event = starting(&node, (&Reporter::proxy("node-1"), AT));
        let expected = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event",
            "metadata": {"name": event.name, "namespace": "default"}, "eventTime": "1970-01-01T00:00:00.000000Z",
            "reportingController": "heddle-proxy", "reportingInstance": "heddle-proxy-node-1",
            "regarding": {"apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": "node-1"},
            "action": "StartKubeProxy", "reason": "Starting", "type": "Normal", "note": "",
        });
        assert_eq!(event.object, expected);
    }
}
