//! What `kubectl apply -k conf/…` makes: objects that the API knows, flags that the programs take, rights that are there and used.

#[path = "apiserver/client.rs"]
#[expect(dead_code, reason = "the API server's own tests use the rest")]
mod client;

use clap::Parser as _;
use client::{Client, Outcome};
use heddle_node::config::Flags;
use heddle_proxy::config::{CommandLine, Config, Task};
use heddle_tests::apiserver::unknown_fields;
use heddle_tests::manifests::{KUBEADM, VARIANTS, render, render_with};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn name(object: &Value) -> String {
    format!("{} {}", text(object, "/kind"), text(object, "/metadata/name"))
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn find<'a>(objects: &'a [Value], name: &str) -> Outcome<&'a Value> {
    Ok(objects.iter().find(|object| self::name(object) == name).ok_or(format!("no {name}"))?)
}

/// Where the API server takes objects of a kind.
fn path(object: &Value) -> String {
    let version = text(object, "/apiVersion");
    let root = if version.contains('/') { "apis" } else { "api" };
    let namespace = text(object, "/metadata/namespace");
    let namespace = if namespace.is_empty() { String::new() } else { format!("namespaces/{namespace}/") };
    let plural = text(object, "/kind").to_lowercase();
    format!("/{root}/{version}/{namespace}{plural}s?fieldValidation=Strict")
}

/// The arguments of a set's only container, as kubelet gives them on a node of this name.
fn arguments(objects: &[Value], program: &str) -> Outcome<Vec<String>> {
    let set = find(objects, &format!("DaemonSet {program}"))?;
    let container = set.pointer("/spec/template/spec/containers/0").ok_or("no container")?;
    assert_eq!(list(container, "/command"), [json!(format!("/{program}"))]);
    let mut values = vec![("NODE_NAME".to_owned(), "node-1".to_owned())];
    for variable in list(container, "/env") {
        let map = text(variable, "/valueFrom/configMapKeyRef/name");
        if !map.is_empty() {
            let key = text(variable, "/valueFrom/configMapKeyRef/key");
            let value = text(find(objects, &format!("ConfigMap {map}"))?, &format!("/data/{key}"));
            values.push((text(variable, "/name").to_owned(), value.to_owned()));
        }
    }
    let filled = |argument: &Value| {
        let argument = argument.as_str().unwrap_or_default().to_owned();
        values.iter().fold(argument, |it, (name, value)| it.replace(&format!("$({name})"), value))
    };
    let arguments: Vec<_> = list(container, "/args").iter().map(filled).collect();
    assert!(!arguments.iter().any(|argument| argument.contains("$(")), "{arguments:?}");
    Ok([vec![program.to_owned()], arguments].concat())
}

#[test]
fn every_variant_is_objects_that_the_api_knows_and_takes() -> Outcome {
    for (variant, components) in
        VARIANTS.into_iter().flat_map(|variant| [(variant, &[][..]), (variant, &["ebpf"])])
    {
        let client = Client::start()?;
        let objects = render_with(variant, components)?;
        let names: BTreeSet<_> = objects.iter().map(name).collect();
        assert_eq!(names.len(), objects.len(), "{names:?}");
        for object in &objects {
            assert_eq!(unknown_fields(object)?, [""; 0], "{variant}: {}", name(object));
            let (code, answer) = client.post(&path(object), object)?;
            assert_eq!(code, 201, "{variant}: {}: {answer}", name(object));
        }
        for program in ["heddle-node", "heddle-proxy"] {
            let set = find(&objects, &format!("DaemonSet {program}"))?;
            assert!(names.contains(&format!("ServiceAccount {program}")));
            assert_eq!(text(set, "/spec/template/spec/serviceAccountName"), program);
            assert_eq!(text(set, "/metadata/namespace"), "kube-system", "where critical pods may be");
            for volume in list(set, "/spec/template/spec/volumes") {
                let map = text(volume, "/configMap/name");
                assert!(map.is_empty() || map == "kube-proxy" || names.contains(&format!("ConfigMap {map}")));
            }
        }
    }
    Ok(())
}

#[test]
fn what_takes_it_away_is_known_too_and_its_programs_take_their_flags() -> Outcome {
    let client = Client::start()?;
    let objects = render("uninstall")?;
    let [set] = &objects[..] else { return Err(format!("{objects:?}").into()) };
    assert_eq!(unknown_fields(set)?, [""; 0]);
    let (code, answer) = client.post(&path(set), set)?;
    assert_eq!(code, 201, "{answer}");
    let pod = set.pointer("/spec/template/spec").ok_or("no pod")?;
    let containers = list(pod, "/initContainers").iter().chain(list(pod, "/containers"));
    let line = |container: &Value| [list(container, "/command"), list(container, "/args")].concat();
    let lines: Vec<Vec<Value>> = containers.map(line).collect();
    for line in &lines {
        let line: Vec<&str> = line.iter().filter_map(Value::as_str).collect();
        match line[0] {
            "/heddle-node" => {
                let config = Flags::try_parse_from(&line)?.config(Default::default());
                assert!(config.cleans_up);
            }
            _ => assert_eq!(CommandLine::read(line.iter(), "host")?.config()?.task, Task::Cleanup),
        }
    }
    assert_eq!(lines.len(), 3);
    Ok(())
}

#[test]
fn a_misspelt_field_is_found_wherever_it_is() -> Outcome {
    let client = Client::start()?;
    let objects = render("kind")?;
    for (object, parent, field) in [
        ("DaemonSet heddle-node", "/spec/template/spec", "hostNetwrok"),
        (
            "DaemonSet heddle-proxy",
            "/spec/template/spec/containers/0/securityContext",
            "readonlyRootFilesystem",
        ),
        ("DaemonSet heddle-proxy", "/spec/template/spec/tolerations/0", "operater"),
        ("ClusterRole heddle-node", "/rules/0", "resource"),
        ("ClusterRoleBinding heddle-node", "/subjects/0", "nameSpace"),
        ("ConfigMap heddle-proxy", "", "datum"),
    ] {
        let mut object = find(&objects, object)?.clone();
        object.pointer_mut(parent).ok_or("no parent")?[field] = json!("x");
        let (code, answer) = client.post(&path(&object), &object)?;
        let said =
            format!("{}.{field}\"", parent.trim_start_matches('/').rsplit('/').next().unwrap_or_default());
        let said = said.trim_start_matches(['.', '0']).to_owned();
        assert!(code == 400 && text(&answer, "/message").contains(&said), "{said}: {answer}");
    }
    Ok(())
}

#[test]
fn the_programs_take_the_flags_and_files_that_they_are_given() -> Outcome {
    for variant in VARIANTS {
        let objects = render(variant)?;
        let node = arguments(&objects, "heddle-node")?;
        let flags = Flags::try_parse_from(&node).map_err(|error| format!("{variant}: {error}"))?;
        assert_eq!(&*flags.config(Default::default()).settings.node, "node-1");
        let config = proxy_config(&objects, variant)?;
        assert_eq!((config.node.as_str(), config.mode()), ("node-1", "nftables"));
        assert!(config.replaces_kube_proxy);
        if variant != "kubeadm" && variant != "minikube" {
            assert_eq!(config.remarks, [""; 0], "{variant}");
        }
    }
    Ok(())
}

#[test]
fn with_the_component_sockets_are_served_whatever_the_file_says() -> Outcome {
    for variant in VARIANTS {
        let objects = render_with(variant, &["ebpf"])?;
        let (plain, config) = (proxy_config(&render(variant)?, variant)?, proxy_config(&objects, variant)?);
        assert_eq!((config.mode(), &config.remarks), ("ebpf", &plain.remarks), "{variant}");
        let set = find(&objects, "DaemonSet heddle-proxy")?;
        let container = set.pointer("/spec/template/spec/containers/0").ok_or("no container")?;
        let rights = list(container, "/securityContext/capabilities/add");
        assert_eq!(rights, ["NET_ADMIN", "BPF", "PERFMON", "SYS_ADMIN"].map(|right| json!(right)));
        let places = config.places;
        for (path, host) in [
            (places.cgroup, "/sys/fs/cgroup"),
            (places.pins, "/sys/fs/bpf"),
            (places.namespaces, "/run/netns"),
        ] {
            let path = path.ok_or("no place")?;
            let mounts = list(container, "/volumeMounts");
            let mount =
                mounts.iter().find(|mount| path == Path::new(text(mount, "/mountPath"))).ok_or("no mount")?;
            let volumes = list(set, "/spec/template/spec/volumes");
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).ok_or("no volume")?;
            assert_eq!(text(volume, "/hostPath/path"), host, "{variant}");
        }
    }
    Ok(())
}

/// What heddle-proxy makes of its flags and its file, which kubeadm has written where there is none of ours.
fn proxy_config(objects: &[Value], variant: &str) -> Outcome<Config> {
    let folder = tempfile::tempdir()?;
    let ours = find(objects, "ConfigMap heddle-proxy").map(|map| text(map, "/data/config.conf"));
    let set = find(objects, "DaemonSet heddle-proxy")?;
    let of_kubeadm = text(set, "/spec/template/spec/volumes/0/configMap/name") == "kube-proxy";
    fs::write(folder.path().join("config.conf"), if of_kubeadm { KUBEADM } else { ours? })?;
    let given = arguments(objects, "heddle-proxy")?;
    let mount = text(set, "/spec/template/spec/containers/0/volumeMounts/0/mountPath").to_owned();
    let here = folder.path().to_string_lossy().into_owned();
    let line = given.iter().map(|argument| argument.replace(&mount, &here));
    let config = CommandLine::read(line, "host").and_then(|line| line.config());
    Ok(config.map_err(|error| format!("{variant}: {error}: {given:?}"))?)
}

#[test]
fn either_program_can_be_left_out_by_its_label() -> Outcome {
    let objects = render("kind")?;
    for (left_out, other) in [("heddle-proxy", "heddle-node"), ("heddle-node", "heddle-proxy")] {
        let label = |object: &Value| text(object, "/metadata/labels/app.kubernetes.io~1name").to_owned();
        let rest: Vec<_> = objects.iter().filter(|object| label(object) != left_out).cloned().collect();
        assert!(find(&rest, &format!("DaemonSet {left_out}")).is_err());
        assert!(!rest.iter().any(|object| text(object, "/metadata/name") == left_out));
        arguments(&rest, other)?;
        for kind in ["ServiceAccount", "ClusterRole", "ClusterRoleBinding"] {
            find(&rest, &format!("{kind} {other}"))?;
        }
    }
    Ok(())
}
