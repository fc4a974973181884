//! The API server over HTTP: what a client of Kubernetes may rely on.

#[path = "apiserver/client.rs"]
mod client;

use std::time::Duration;

use client::{Client, Outcome};
use heddle_tests::apiserver::Options;
use heddle_tests::patience::{PATIENCE, eventually};
use serde_json::{Value, json};

const SERVICES: &str = "/api/v1/namespaces/shop/services";

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80}]},
    })
}

fn version(object: &Value) -> String {
    object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned()
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
    items.iter().filter_map(|item| item["metadata"]["name"].as_str()).collect()
}

#[test]
fn a_service_is_completed_when_it_is_created() -> Outcome {
    let client = Client::start()?;
    let (code, made) = client.post(SERVICES, &service("web"))?;
    assert_eq!(code, 201);
    assert_eq!(
        made["spec"],
        json!({
            "type": "ClusterIP", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
            "selector": {"app": "web"}, "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        })
    );
    assert_eq!(made["metadata"]["namespace"], "shop");
    for field in ["uid", "creationTimestamp", "resourceVersion"] {
        assert!(made["metadata"][field].is_string(), "{field}: {made}");
    }
    assert_eq!(client.get(&format!("{SERVICES}/web"))?, (200, made));
    Ok(())
}

#[test]
fn cluster_ips_and_node_ports_are_held_by_one_service_and_free_after_it() -> Outcome {
    let client = Client::start()?;
    let mut dual = service("dual");
    dual["spec"]["ipFamilyPolicy"] = json!("PreferDualStack");
    dual["spec"]["type"] = json!("NodePort");
    let made = client.post(SERVICES, &dual)?.1;
    assert_eq!(made["spec"]["clusterIPs"], json!(["10.96.0.1", "fd00:96::1"]));
    assert_eq!(made["spec"]["ports"][0]["nodePort"], 30_000);
    let mut rival = service("rival");
    rival["spec"]["clusterIP"] = json!("10.96.0.1");
    let refused = client.post(SERVICES, &rival)?;
    assert_eq!((refused.0, &refused.1["details"]["causes"][0]["field"]), (422, &json!("spec.clusterIPs[0]")));
    assert_eq!(client.delete(&format!("{SERVICES}/dual"))?.0, 200);
    assert_eq!(client.post(SERVICES, &rival)?.0, 201);
    Ok(())
}

#[test]
fn a_replacement_keeps_what_the_server_chose() -> Outcome {
    let client = Client::start()?;
    let mut wanted = service("web");
    wanted["spec"]["type"] = json!("NodePort");
    let made = client.post(SERVICES, &wanted)?.1;
    let kept = client.put(&format!("{SERVICES}/web"), &wanted)?.1;
    assert_eq!(kept, made, "a write that changes nothing is none");
    wanted["spec"]["type"] = json!("ClusterIP");
    let changed = client.put(&format!("{SERVICES}/web"), &wanted)?.1;
    assert_eq!(changed["spec"]["clusterIP"], made["spec"]["clusterIP"]);
    assert_eq!(changed["spec"]["ports"][0]["nodePort"], Value::Null);
    wanted["spec"]["clusterIP"] = json!("10.96.9.9");
    assert_eq!(client.put(&format!("{SERVICES}/web"), &wanted)?.0, 422);
    Ok(())
}

#[test]
fn refusals_are_status_objects_that_name_the_field() -> Outcome {
    let client = Client::start()?;
    let mut wrong = service("web");
    wrong["spec"]["ports"][0]["port"] = json!(70_000);
    let (code, status) = client.post(SERVICES, &wrong)?;
    assert_eq!((code, &status["kind"], &status["reason"]), (422, &json!("Status"), &json!("Invalid")));
    assert_eq!(status["details"]["causes"][0]["field"], "spec.ports[0].port");
    client.post(SERVICES, &service("web"))?;
    let cases = [
        (client.post(SERVICES, &service("web"))?, 409, "AlreadyExists"),
        (client.get(&format!("{SERVICES}/absent"))?, 404, "NotFound"),
        (client.get("/apis/apps/v1/deployments")?, 404, "NotFound"),
        (client.post(&format!("{SERVICES}/web"), &service("web"))?, 405, "MethodNotAllowed"),
        (client.send("POST", SERVICES, "text/plain", "{}")?, 415, "UnsupportedMediaType"),
        (client.send("POST", SERVICES, "application/json", "{")?, 400, "BadRequest"),
        (client.get("/api/v1/services?labelSelector=a+b")?, 400, "BadRequest"),
        (client.get("/api/v1/services?resourceVersion=9999")?, 504, "Timeout"),
    ];
    for ((code, status), expected, reason) in cases {
        assert_eq!((code, &status["reason"]), (expected, &json!(reason)), "{status}");
    }
    Ok(())
}

#[test]
fn a_write_from_an_old_version_conflicts() -> Outcome {
    let client = Client::start()?;
    let old = client.post(SERVICES, &service("web"))?.1;
    let path = format!("{SERVICES}/web");
    let patch = json!({"metadata": {"labels": {"tier": "front"}}});
    assert_eq!(client.patch(&path, "merge-patch+json", &patch)?.0, 200);
    let (code, status) = client.put(&path, &old)?;
    assert_eq!((code, &status["reason"]), (409, &json!("Conflict")));
    Ok(())
}

#[test]
fn every_kind_of_patch_changes_the_object() -> Outcome {
    let client = Client::start()?;
    let mut wanted = service("web");
    wanted["spec"]["ports"] = json!([{"name": "a", "port": 80}, {"name": "b", "port": 81}]);
    client.post(SERVICES, &wanted)?;
    let path = format!("{SERVICES}/web");
    let ports = |object: &Value| object["spec"]["ports"].as_array().map_or(0, Vec::len);

    let strategic = json!({"spec": {"ports": [{"port": 81, "$patch": "delete"}, {"name": "c", "port": 82}]}});
    let patched = client.patch(&path, "strategic-merge-patch+json", &strategic)?.1;
    assert_eq!((ports(&patched), &patched["spec"]["ports"][1]["port"]), (2, &json!(82)), "{patched}");
    let operations = json!([{"op": "remove", "path": "/spec/ports/1"}]);
    assert_eq!(ports(&client.patch(&path, "json-patch+json", &operations)?.1), 1);
    let applied = json!({"apiVersion": "v1", "kind": "Service", "spec": {"sessionAffinity": "ClientIP"}});
    let patched = client.patch(&path, "apply-patch+yaml", &applied)?.1;
    assert_eq!(patched["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], 10_800);
    let (code, made) = client.patch(&format!("{SERVICES}/new"), "apply-patch+yaml", &service("new"))?;
    assert_eq!((code, &made["spec"]["clusterIP"]), (201, &json!("10.96.0.2")));
    assert_eq!(client.patch(&path, "json", &json!({}))?.0, 415);
    Ok(())
}

#[test]
fn status_is_written_apart_from_the_rest() -> Outcome {
    let client = Client::start()?;
    let mut object = client.post(SERVICES, &service("web"))?.1;
    object["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
    object["spec"]["sessionAffinity"] = json!("ClientIP");
    let balanced = client.put(&format!("{SERVICES}/web/status"), &object)?.1;
    assert_eq!(balanced["status"]["loadBalancer"]["ingress"][0]["ip"], "192.0.2.1");
    assert_eq!(balanced["spec"]["sessionAffinity"], "None");
    let patch = json!({"status": null, "spec": {"selector": {"app": "other"}}});
    let patched = client.patch(&format!("{SERVICES}/web"), "merge-patch+json", &patch)?.1;
    assert_eq!(patched["status"], balanced["status"]);
    assert_eq!(patched["spec"]["selector"]["app"], "other");
    Ok(())
}

#[test]
fn a_finalizer_keeps_an_object_until_it_is_removed() -> Outcome {
    let client = Client::start()?;
    let mut held = service("web");
    held["metadata"]["finalizers"] = json!(["example.com/balancer"]);
    client.post(SERVICES, &held)?;
    let path = format!("{SERVICES}/web");
    client.delete(&path)?;
    assert!(client.get(&path)?.1["metadata"]["deletionTimestamp"].is_string());
    client.patch(&path, "merge-patch+json", &json!({"metadata": {"finalizers": null}}))?;
    assert_eq!(client.get(&path)?.0, 404);
    Ok(())
}

#[test]
fn pages_show_the_state_of_the_first_one() -> Outcome {
    let client = Client::start()?;
    for name in ["a", "b", "c", "d", "e"] {
        client.post(SERVICES, &service(name))?;
    }
    let first = client.get("/api/v1/services?limit=2")?.1;
    assert_eq!((names(&first), &first["metadata"]["remainingItemCount"]), (vec!["a", "b"], &json!(3)));
    client.delete(&format!("{SERVICES}/c"))?;
    client.post(SERVICES, &service("cc"))?;
    let next = |page: &Value| {
        format!(
            "/api/v1/services?limit=2&continue={}",
            page["metadata"]["continue"].as_str().unwrap_or_default()
        )
    };
    let second = client.get(&next(&first))?.1;
    assert_eq!((names(&second), version(&second)), (vec!["c", "d"], version(&first)));
    let last = client.get(&next(&second))?.1;
    assert_eq!((names(&last), &last["metadata"]["continue"]), (vec!["e"], &Value::Null));
    client.server.compact();
    let (code, status) = client.get(&next(&first))?;
    assert_eq!((code, &status["reason"]), (410, &json!("Expired")));
    assert_eq!(names(&client.get("/api/v1/services")?.1), ["a", "b", "cc", "d", "e"]);
    Ok(())
}

#[test]
fn lists_are_narrowed_by_namespace_labels_and_fields() -> Outcome {
    let client = Client::start()?;
    client.post(SERVICES, &service("web"))?;
    client.post("/api/v1/namespaces/other/services", &service("api"))?;
    let cases = [
        ("/api/v1/services", vec!["api", "web"]),
        (SERVICES, vec!["web"]),
        ("/api/v1/services?labelSelector=app+in+(web,db)", vec!["web"]),
        ("/api/v1/services?labelSelector=!app", vec![]),
        ("/api/v1/services?fieldSelector=metadata.namespace%3Dother", vec!["api"]),
        ("/api/v1/services?fieldSelector=spec.clusterIP!%3D10.96.0.1", vec!["api"]),
    ];
    for (path, expected) in cases {
        assert_eq!(names(&client.get(path)?.1), expected, "{path}");
    }
    Ok(())
}

#[test]
fn a_watch_continues_where_the_list_ended() -> Outcome {
    let client = Client::start()?;
    client.post(SERVICES, &service("before"))?;
    let list = client.get(SERVICES)?.1;
    client.post(SERVICES, &service("web"))?;
    let mut watch = client.watch(&format!("{SERVICES}?watch=true&resourceVersion={}", version(&list)))?;
    assert_eq!(watch.next_named()?, ("ADDED".into(), "web".into()));
    client.patch(
        &format!("{SERVICES}/web"),
        "merge-patch+json",
        &json!({"metadata": {"labels": {"a": "b"}}}),
    )?;
    assert_eq!(watch.next_named()?, ("MODIFIED".into(), "web".into()));
    client.post("/api/v1/namespaces/other/services", &service("elsewhere"))?;
    client.delete(&format!("{SERVICES}/web"))?;
    let (kind, last) = watch.next()?.ok_or("the watch has ended")?;
    assert_eq!((kind.as_str(), &last["metadata"]["labels"]["a"]), ("DELETED", &json!("b")));
    assert_eq!(version(&last), client.server.revision().to_string());
    Ok(())
}

#[test]
fn an_object_that_stops_matching_is_deleted_for_the_watch() -> Outcome {
    let client = Client::start()?;
    let mut watch = client.watch(&format!("{SERVICES}?watch=true&labelSelector=app%3Dweb"))?;
    client.post(SERVICES, &service("web"))?;
    client.post(SERVICES, &service("other"))?;
    assert_eq!(watch.next_named()?, ("ADDED".into(), "web".into()));
    let label = |to: &str| json!({"metadata": {"labels": {"app": to}}});
    client.patch(&format!("{SERVICES}/web"), "merge-patch+json", &label("x"))?;
    assert_eq!(watch.next_named()?, ("DELETED".into(), "web".into()));
    client.patch(&format!("{SERVICES}/other"), "merge-patch+json", &label("web"))?;
    assert_eq!(watch.next_named()?, ("ADDED".into(), "other".into()));
    Ok(())
}

#[test]
fn a_streaming_list_ends_with_a_marked_bookmark() -> Outcome {
    let client = Client::start()?;
    client.post(SERVICES, &service("a"))?;
    client.post(SERVICES, &service("b"))?;
    let revision = client.server.revision().to_string();
    let path = "/api/v1/services?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = client.watch(path)?;
    assert_eq!(watch.next_named()?, ("ADDED".into(), "a".into()));
    assert_eq!(watch.next_named()?, ("ADDED".into(), "b".into()));
    let (kind, bookmark) = watch.next()?.ok_or("the watch has ended")?;
    assert_eq!(kind, "BOOKMARK");
    assert_eq!(
        bookmark,
        json!({"kind": "Service", "apiVersion": "v1", "metadata": {
            "resourceVersion": revision, "annotations": {"k8s.io/initial-events-end": "true"},
        }})
    );
    client.post(SERVICES, &service("c"))?;
    assert_eq!(watch.next_named()?, ("ADDED".into(), "c".into()));
    client.server.disable_streaming_lists();
    assert_eq!(client.get(path)?.0, 422);
    Ok(())
}

#[test]
fn bookmarks_move_a_quiet_watch_past_other_kinds() -> Outcome {
    let interval = Duration::from_millis(20);
    let client =
        Client::start_with(Options { plain: true, bookmark_interval: interval, ..Options::default() })?;
    let mut watch = client.watch("/api/v1/services?watch=true&allowWatchBookmarks=true&resourceVersion=1")?;
    client.post("/api/v1/nodes", &json!({"metadata": {"name": "node-1"}}))?;
    let newest = client.server.revision().to_string();
    eventually("a bookmark at the newest revision", PATIENCE, || match watch.next() {
        Ok(Some((kind, object))) if kind == "BOOKMARK" && version(&object) == newest => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    Ok(())
}

#[test]
fn a_watch_from_before_the_compaction_is_told_so() -> Outcome {
    let client = Client::start()?;
    let list = client.get(SERVICES)?.1;
    client.post(SERVICES, &service("web"))?;
    client.server.compact();
    let mut watch = client.watch(&format!("{SERVICES}?watch=true&resourceVersion={}", version(&list)))?;
    let (kind, status) = watch.next()?.ok_or("the watch has ended")?;
    assert_eq!(
        (kind.as_str(), &status["code"], &status["reason"]),
        ("ERROR", &json!(410), &json!("Expired"))
    );
    assert_eq!(watch.next()?, None, "nothing follows");
    Ok(())
}

#[test]
fn a_watch_ends_in_order_when_its_time_is_over() -> Outcome {
    let client = Client::start()?;
    let mut watch = client.watch("/api/v1/nodes?watch=true&timeoutSeconds=1&allowWatchBookmarks=true")?;
    let (kind, bookmark) = watch.next()?.ok_or("the watch has ended without a bookmark")?;
    assert_eq!((kind.as_str(), version(&bookmark)), ("BOOKMARK", client.server.revision().to_string()));
    assert_eq!(watch.next()?, None);
    Ok(())
}

#[test]
fn a_cut_watch_breaks_and_the_next_one_works() -> Outcome {
    let client = Client::start()?;
    let mut watch = client.watch("/api/v1/services?watch=true")?;
    client.server.cut_watches();
    assert!(watch.breaks_off(), "an orderly end would hide the fault");
    let mut watch = client.watch("/api/v1/services?watch=true")?;
    client.post(SERVICES, &service("web"))?;
    assert_eq!(watch.next_named()?, ("ADDED".into(), "web".into()));
    Ok(())
}

#[test]
fn a_refusing_server_comes_back_on_its_port() -> Outcome {
    let client = Client::start()?;
    let mut watch = client.watch("/api/v1/services?watch=true")?;
    for _ in 0..3 {
        client.server.refuse()?;
        assert!(client.get("/api/v1/services").is_err());
        client.server.listen()?;
        assert_eq!(client.get("/api/v1/services")?.0, 200);
    }
    assert!(watch.breaks_off(), "open connections are dropped");
    Ok(())
}

#[test]
fn a_stalled_server_answers_when_it_resumes() -> Outcome {
    let client = Client::start()?;
    let mut watch = client.watch("/api/v1/services?watch=true")?;
    client.server.stall();
    assert!(!client.answers_within(Duration::from_millis(100)));
    client.server.apply(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]},
    }))?;
    client.server.resume();
    assert!(client.answers_within(PATIENCE));
    assert_eq!(watch.next_named()?, ("ADDED".into(), "web".into()));
    Ok(())
}

#[test]
fn a_namespace_takes_its_objects_with_it() -> Outcome {
    let client = Client::start()?;
    client.post("/api/v1/namespaces", &json!({"metadata": {"name": "shop"}}))?;
    client.post(SERVICES, &service("web"))?;
    let mut watch =
        client.watch(&format!("{SERVICES}?watch=true&resourceVersion={}", client.server.revision()))?;
    assert_eq!(client.delete("/api/v1/namespaces/shop")?.0, 200);
    assert_eq!(watch.next_named()?, ("DELETED".into(), "web".into()));
    Ok(())
}

#[test]
fn slices_are_read_in_the_version_before_as_proxies_of_kubernetes_1_20_do() -> Outcome {
    let client = Client::start()?;
    let groups = client.get("/apis/discovery.k8s.io")?.1;
    let versions = groups["versions"].as_array().ok_or("no versions")?.iter().map(|it| &it["version"]);
    assert_eq!(versions.collect::<Vec<_>>(), ["v1", "v1beta1"]);
    assert_eq!(groups["preferredVersion"]["version"], "v1");
    let endpoint = json!({
        "addresses": ["10.0.0.1"], "nodeName": "node-1", "zone": "west", "deprecatedTopology": {"rack": "7"},
    });
    let slice = json!({
        "metadata": {"name": "web-1"}, "addressType": "IPv4", "endpoints": [endpoint], "ports": [],
    });
    let newer = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";
    let older = "/apis/discovery.k8s.io/v1beta1/namespaces/shop/endpointslices";
    let mut watch = client.watch(&format!("{older}?watch=true"))?;
    let made = client.post(newer, &slice)?.1;
    let (_, seen) = watch.next()?.ok_or("the watch has ended")?;
    let topology =
        json!({"rack": "7", "topology.kubernetes.io/zone": "west", "kubernetes.io/hostname": "node-1"});
    assert_eq!(
        seen["endpoints"],
        json!([{"addresses": ["10.0.0.1"], "nodeName": "node-1", "topology": topology}])
    );
    assert_eq!(
        (&seen["apiVersion"], &seen["metadata"]),
        (&json!("discovery.k8s.io/v1beta1"), &made["metadata"])
    );
    assert_eq!(client.get(&format!("{older}/web-1"))?, (200, seen.clone()));
    let list = client.get(older)?.1;
    assert_eq!(
        (&list["apiVersion"], &list["items"][0]["endpoints"]),
        (&seen["apiVersion"], &seen["endpoints"])
    );
    assert_eq!(client.get(&format!("{newer}/web-1"))?.1["endpoints"], made["endpoints"]);
    assert_eq!(client.delete(&format!("{older}/web-1"))?.0, 405);
    Ok(())
}
