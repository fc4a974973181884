//! What a server says is what the model comes to hold.

use super::{Cluster, Heard, Outcomes, Source};
use heddle_proxy::model::Change;
use heddle_tests::patience::{PATIENCE, eventually};
use serde_json::json;

/// Objects from before the start and changes after it.
fn follows_a_cluster(cluster: &Cluster) -> Outcomes {
    cluster.service("a", "10.96.0.1")?;
    cluster.service("b", "10.96.0.2")?;
    cluster.slice("a-1", &json!({"kubernetes.io/service-name": "a"}), &["10.0.0.1"])?;
    let source = Source::start(cluster)?;
    source.comes_to(&["a 10.96.0.1", "b 10.96.0.2"])?;
    source.comes_to_endpoints("a", &["10.0.0.1"])?;

    cluster.service("c", "10.96.0.3")?;
    cluster.delete_service("a")?;
    source.comes_to(&["b 10.96.0.2", "c 10.96.0.3"])?;
    source.with(Heard::take);
    cluster.slice("a-1", &json!({"kubernetes.io/service-name": "a"}), &["10.0.0.1", "10.0.0.2"])?;
    source.comes_to_endpoints("a", &["10.0.0.1", "10.0.0.2"])?;
    let changes = source.with(Heard::take);
    assert!(matches!(&changes[..], [Change::SliceApplied(..)]), "{changes:?}");
    source.stop()
}

/// kp:A13
#[test]
fn a_cluster_is_followed_by_streaming_list() -> Outcomes {
    follows_a_cluster(&Cluster::new("watch-stream")?)
}

#[test]
fn a_server_without_streaming_lists_is_listed_in_pages() -> Outcomes {
    let cluster = Cluster::new("watch-pages")?;
    cluster.server.disable_streaming_lists();
    follows_a_cluster(&cluster)
}

#[test]
fn a_list_longer_than_a_page_is_read_to_its_end() -> Outcomes {
    let cluster = Cluster::new("watch-long")?;
    cluster.server.disable_streaming_lists();
    let expected: Vec<String> =
        (0..1201).map(|number| format!("s{number:04} 10.96.{}.{}", 1 + number / 250, number % 250)).collect();
    for service in &expected {
        let (name, address) = service.split_once(' ').ok_or("no address")?;
        cluster.service(name, address)?;
    }
    let source = Source::start(&cluster)?;
    source.comes_to(&expected.iter().map(String::as_str).collect::<Vec<_>>())?;
    source.stop()
}

/// kp:A1
#[test]
fn another_proxys_services_and_headless_ones_are_not_seen() -> Outcomes {
    let cluster = Cluster::new("watch-labels")?;
    let other = json!({"service.kubernetes.io/service-proxy-name": ""});
    cluster.apply_service("other", &other, "10.96.0.1")?;
    cluster.service("headless", "None")?;
    cluster.service("ours", "10.96.0.2")?;
    let source = Source::start(&cluster)?;
    source.comes_to(&["ours 10.96.0.2"])?;
    cluster.apply_service("ours", &other, "10.96.0.2")?;
    source.comes_to(&[])?;
    cluster.service("ours", "10.96.0.2")?;
    source.comes_to(&["ours 10.96.0.2"])?;
    source.stop()
}

/// kp:A2
#[test]
fn a_slice_that_becomes_headless_is_gone() -> Outcomes {
    let cluster = Cluster::new("watch-headless")?;
    cluster.slice("a-1", &json!({"kubernetes.io/service-name": "a"}), &["10.0.0.1"])?;
    let source = Source::start(&cluster)?;
    source.comes_to_endpoints("a", &["10.0.0.1"])?;
    let labels = json!({"kubernetes.io/service-name": "a", "service.kubernetes.io/headless": ""});
    cluster.slice("a-1", &labels, &["10.0.0.1"])?;
    source.comes_to_endpoints("a", &[])?;
    source.stop()
}

/// kp:A3
#[test]
fn only_our_own_node_is_watched() -> Outcomes {
    let cluster = Cluster::new("watch-node")?;
    let node = |name: &str, address: &str| {
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
            "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]}})
    };
    cluster.server.apply(node("node-b", "192.0.2.2"))?;
    cluster.server.apply(node("node-a", "192.0.2.1"))?;
    let source = Source::start(&cluster)?;
    for address in ["192.0.2.1", "192.0.2.9"] {
        cluster.server.apply(node("node-a", address))?;
        eventually("our node's address", PATIENCE, || {
            let addresses = source.with(|heard| format!("{:?}", heard.model.node().addresses));
            if addresses == format!("[{address}]") { Ok(()) } else { Err(addresses) }
        })?;
    }
    let nodes = source
        .with(Heard::take)
        .into_iter()
        .filter(|change| matches!(change, Change::NodeApplied(_)))
        .count();
    assert_eq!(nodes, 2, "only our node, and each state once");
    source.stop()
}

/// kp:A4
#[test]
fn a_range_of_services_stays_as_long_as_an_object_names_it() -> Outcomes {
    let cluster = Cluster::new("watch-ranges")?;
    let ranges = |name: &str, cidr: &str| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": name},
            "spec": {"cidrs": [cidr]}})
    };
    for object in [ranges("a", "10.97.0.0/16"), ranges("b", "10.97.0.0/16"), ranges("c", "10.98.0.0/16")] {
        cluster.server.apply(object)?;
    }
    let source = Source::start(&cluster)?;
    let comes_to = |holds: [bool; 2]| {
        eventually("the ranges of the server", PATIENCE, || {
            let held = source.with(|heard| heard.model.service_cidrs());
            let held: Vec<String> = held.iter().map(ToString::to_string).collect();
            let found = ["10.97.0.0/16", "10.98.0.0/16"].map(|range| held.iter().any(|other| other == range));
            if found == holds { Ok(()) } else { Err(format!("{held:?}")) }
        })
    };
    comes_to([true, true])?;
    cluster.server.delete("servicecidrs", "", "a")?;
    cluster.server.delete("servicecidrs", "", "c")?;
    comes_to([true, false])?;
    cluster.server.delete("servicecidrs", "", "b")?;
    comes_to([false, false])?;
    source.stop()
}

#[test]
fn a_node_whose_object_is_deleted_keeps_its_addresses() -> Outcomes {
    let cluster = Cluster::new("watch-node-gone")?;
    cluster.server.apply(json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "node-a", "labels": {"topology.kubernetes.io/zone": "z"}},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}}))?;
    let source = Source::start(&cluster)?;
    let exists = |expected: bool| {
        eventually("our node", PATIENCE, || {
            let exists = source.with(|heard| heard.model.node_exists());
            if exists == expected { Ok(()) } else { Err(format!("it exists: {exists}")) }
        })
    };
    exists(true)?;
    cluster.server.delete("nodes", "", "node-a")?;
    exists(false)?;
    let (addresses, zone) = source.with(|heard| {
        let node = heard.model.node();
        (node.addresses.clone(), node.zone.clone())
    });
    assert_eq!((addresses.len(), zone.as_deref()), (1, Some("z")));
    source.stop()
}
