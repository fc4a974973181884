use proptest::prelude::*;

use super::*;
use crate::model::{Change, ObjectName};

fn parsed(format: Format, text: &str) -> Parsed {
    parse(format, text.as_bytes(), "node-a", &mut Names::default())
}

fn yaml(text: &str) -> Parsed {
    parsed(Format::Yaml, text)
}

fn mistakes(parsed: &Parsed) -> Vec<String> {
    parsed.mistakes.iter().map(ToString::to_string).collect()
}

fn keys(parsed: &Parsed) -> Vec<String> {
    parsed.objects.keys().map(ToString::to_string).collect()
}

fn service(name: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{clusterIP: 10.0.0.1}}\n")
}

#[test]
fn files_are_known_by_their_ending() {
    assert_eq!(Format::of("a.yaml"), Some(Format::Yaml));
    assert_eq!(Format::of("a.b.yml"), Some(Format::Yaml));
    assert_eq!(Format::of("a.json"), Some(Format::Json));
    for other in ["a.yaml~", ".a.yaml.swp", ".a.yaml", "..data", "yaml", "4913", "notes.txt"] {
        assert_eq!(Format::of(other), None, "{other}");
    }
}

#[test]
fn documents_of_a_yaml_file_are_read_one_by_one() {
    let text = format!(
        "# a comment\n%YAML 1.2\n---\n{}---\n\n--- # nothing here\n---\n{}...\n---\n{}",
        service("a"),
        service("b"),
        service("c")
    );
    let parsed = yaml(&text);
    assert_eq!(mistakes(&parsed), [""; 0]);
    assert_eq!(keys(&parsed), ["Service default/a", "Service default/b", "Service default/c"]);
}

#[test]
fn a_bad_document_costs_only_itself_and_is_named_by_number_line_and_field() {
    let text = format!(
        "{}---\n{}  ports: [{{port: 80}}, {{port: 70000}}]\n---\nkind: [\n---\n{}---\n{}",
        service("a"),
        "apiVersion: v1\nkind: Service\nmetadata: {name: b, namespace: shop}\nspec:\n  clusterIP: 10.0.0.2\n",
        service("c"),
        "apiVersion: v1\nkind: Service\nmetadata: {name: d}\nspec: {ports: [{port: eighty}]}\n",
    );
    let parsed = yaml(&text);
    assert_eq!(keys(&parsed), ["Service default/a", "Service default/c"]);
    let found = mistakes(&parsed);
    assert_eq!(
        found[0],
        "document 2 (line 5): Service shop/b: spec.ports[1].port: 70000 is not a port (1-65535)"
    );
    assert!(found[1].starts_with("document 3 (line 1"), "{}", found[1]);
    let shape =
        "document 5 (line 19): Service default/d: spec.ports[0].port: invalid type: string \"eighty\"";
    assert!(found[2].starts_with(shape), "{}", found[2]);
    assert_eq!(found.len(), 3);
    let known: Vec<bool> = parsed.mistakes.iter().map(|mistake| mistake.key.is_some()).collect();
    assert_eq!(known, [true, false, true]);
}

#[test]
fn lists_are_read_item_by_item_in_yaml_and_json() {
    let json = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"clusterIP": "10.0.0.1"}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "b"}, "spec": {"clusterIP": "10.0.0"}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "c"}, "spec": {"ports": 7}},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
         "metadata": {"name": "a-1", "namespace": "x", "labels": {"kubernetes.io/service-name": "a"}}}
    ]}"#;
    // JSON is YAML too.
    for (format, place) in [(Format::Json, "document 1"), (Format::Yaml, "document 1 (line 1)")] {
        let parsed = parsed(format, json);
        assert_eq!(keys(&parsed), ["Service default/a", "EndpointSlice x/a-1"]);
        let message =
            format!("{place}, items[1]: Service default/b: spec.clusterIP: \"10.0.0\" is not an IP address");
        assert_eq!(mistakes(&parsed), [message]);
    }
}

/// The form that kubectl writes: items before the kind.
#[test]
fn a_list_in_block_form_is_read_item_by_item() {
    let text = "apiVersion: v1\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: a}\n  spec: {}\n\
        - kind: Service\n  apiVersion: v1\n  metadata: {name: b}\n  spec: {ports: 7}\n\
        - just text\nkind: List\nmetadata: {resourceVersion: \"\"}\n";
    let parsed = yaml(text);
    assert_eq!(keys(&parsed), ["Service default/a"]);
    let found = mistakes(&parsed);
    assert!(
        found[0].starts_with("document 1 (line 1), items[1]: Service default/b: spec.ports: "),
        "{found:?}"
    );
    assert!(found[1].starts_with("document 1 (line 1), items[2]: the document: "), "{found:?}");
    assert_eq!(found.len(), 2);
    assert_eq!(yaml("apiVersion: v1\nkind: List\nitems:\n"), Parsed::default());
    let broken = yaml("apiVersion: v1\nkind: List\nitems:\n- {a: [\n");
    assert_eq!(broken.mistakes.len(), 1);
    assert_eq!(broken.mistakes[0].key, None);
}

#[test]
fn several_json_values_in_one_file_are_read_until_the_first_that_is_no_json() {
    let object =
        |name: &str| format!(r#"{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{name}"}}}}"#);
    let parsed = parsed(Format::Json, &format!("{}\n{}\n{{]", object("a"), object("b")));
    assert_eq!(keys(&parsed), ["Service default/a", "Service default/b"]);
    assert!(mistakes(&parsed)[0].starts_with("document 3: "), "{:?}", mistakes(&parsed));
}

#[test]
fn only_our_own_node_counts() {
    let node = |name: &str| {
        format!(
            "---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\nstatus: {{addresses: [{{type: InternalIP, \
             address: 10.0.0.5}}]}}\n"
        )
    };
    let parsed = yaml(&(node("node-b") + &node("node-a")));
    assert_eq!(keys(&parsed), ["Node node-a"]);
    assert_eq!(mistakes(&parsed), [""; 0]);
}

#[test]
fn an_object_without_a_field_that_cannot_be_read_counts_and_the_field_is_named() {
    let spec = "spec: {clusterIP: 10.0.0.1, externalIPs: [192.0.2.300]}";
    let parsed = yaml(&format!("apiVersion: v1\nkind: Service\nmetadata: {{name: a}}\n{spec}\n"));
    assert_eq!(keys(&parsed), ["Service default/a"]);
    assert_eq!(mistakes(&parsed), [""; 0]);
    let remarks: Vec<String> = parsed.remarks.iter().map(ToString::to_string).collect();
    let field = "spec.externalIPs[0]: \"192.0.2.300\" is not an IP address";
    assert_eq!(
        remarks,
        [format!("document 1 (line 1): Service default/a: {field}; it counts without this field")]
    );
}

#[test]
fn the_ranges_of_services_are_an_object_without_a_namespace() {
    let text = "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: more}\nspec: {cidrs: [10.97.0.0/16]}\n";
    let parsed = yaml(text);
    assert_eq!(keys(&parsed), ["ServiceCIDR more"]);
    let (key, object) = parsed.objects.into_iter().next().unwrap();
    let ranges = vec!["10.97.0.0/16".parse().unwrap()];
    assert_eq!(object.applied(key), Change::ServiceCidrApplied("more".into(), ranges));
}

#[test]
fn a_slice_of_no_service_is_named_and_no_mistake() {
    let parsed = yaml(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a}\naddressType: IPv4\n",
    );
    assert!(parsed.objects.is_empty() && parsed.mistakes.is_empty());
    let strays: Vec<String> = parsed.strays.iter().map(ToString::to_string).collect();
    let field = "metadata.labels[kubernetes.io/service-name]: missing";
    assert_eq!(
        strays,
        [format!("document 1 (line 1): EndpointSlice default/a: {field}; it is as if it were not there")]
    );
}

#[test]
fn the_first_of_two_objects_with_one_name_counts() {
    let second = service("a").replace("10.0.0.1", "10.0.0.2");
    let parsed = yaml(&format!("{}---\n{second}", service("a")));
    let Object::Service(found) =
        &parsed.objects[&Key { kind: Kind::Service, name: ObjectName::new("default", "a") }]
    else {
        panic!("{parsed:?}")
    };
    assert_eq!(found.cluster_ips[0].to_string(), "10.0.0.1");
    assert_eq!(
        mistakes(&parsed),
        ["document 2 (line 5): Service default/a: is in this file before; the first one counts"]
    );
}

#[test]
fn what_is_no_object_is_reported() {
    for (text, message) in [
        ("just text", "document 1 (line 1): the document: invalid type: string \"just text\""),
        ("apiVersion: v1\nmetadata: {name: a}", "document 1 (line 1): kind: missing"),
        ("apiVersion: v1\nkind: Service", "document 1 (line 1): metadata.name: missing"),
        ("apiVersion: v2\nkind: Service", "document 1 (line 1): apiVersion: \"v2\" is not v1"),
        ("a: 1\na: 2", "document 1 (line 2): "),
    ] {
        let found = mistakes(&yaml(text));
        assert!(found[0].starts_with(message), "{found:?}");
        assert_eq!(found.len(), 1, "{found:?}");
    }
    let found = parse(Format::Yaml, b"\xff\xfe", "", &mut Names::default());
    assert!(mistakes(&found)[0].starts_with("the file: not UTF-8"));
    assert_eq!(yaml("\u{feff}# nothing\n"), Parsed::default());
}

#[test]
fn a_list_larger_than_a_configuration_file_is_read() {
    let items: String = (0..20_000)
        .map(|number| {
            format!(
                "- {{apiVersion: v1, kind: Service, metadata: {{name: s{number}}}, spec: {{ports: []}}}}\n"
            )
        })
        .collect();
    let parsed = yaml(&format!("kind: List\nitems:\n{items}"));
    assert_eq!(mistakes(&parsed), [""; 0]);
    assert_eq!(parsed.objects.len(), 20_000);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for format in [Format::Yaml, Format::Json] {
            parse(format, &bytes, "node-a", &mut Names::default());
        }
    }

    #[test]
    fn no_text_near_a_manifest_makes_it_panic(
        lines in prop::collection::vec(
            prop::sample::select(vec![
                "---", "...", "%YAML 1.2", "# x", "apiVersion: v1", "kind: Service", "kind: List", "items:", "- a: &x [",
                "metadata: {name: a}", "spec:", "  ports: [{port: 1}]", "\t", "*x", "b: *x", "]",
            ]),
            0..20,
        ),
    ) {
        yaml(&lines.join("\n"));
    }
}

/// Where sockets are not served, not even a mistake in one is of interest.
#[test]
fn pods_count_on_their_own_node_and_only_where_they_are_asked_for() {
    let pod = |name: &str, node: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{heddle.dev/sockets: \"off\"}}}}\n\
             spec: {{nodeName: {node}}}\nstatus: {{podIPs: [{{ip: 10.244.1.7}}]}}\n"
        )
    };
    let text = format!("{}{}---\napiVersion: v1\nkind: Pod\n", pod("a", "node-a"), pod("b", "node-b"));
    let asked = Scope { pods: true, ..Scope::from("node-a") };
    let asked = parse(Format::Yaml, text.as_bytes(), asked, &mut Names::default());
    assert_eq!((keys(&asked), mistakes(&asked).len()), (vec!["Pod default/a".to_owned()], 1));
    let unasked = yaml(&text);
    assert_eq!((keys(&unasked).len(), mistakes(&unasked).len()), (0, 0));
}
