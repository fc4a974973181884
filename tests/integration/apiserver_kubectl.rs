//! The API server as people use it: with an unmodified kubectl, over TLS, in a namespace of its own.

use std::error::Error;
use std::fs;
use std::net::TcpListener;

use heddle_tests::apiserver::{ApiServer, Options};
use heddle_tests::namespace::Namespace;
use heddle_tests::process::{Invocation, Output};
use heddle_tests::scratch::Scratch;
use heddle_tests::wire::Wire;
use serde_json::{Value, json};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const WEB: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, labels: {app: web}}
spec:
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: https, port: 443, targetPort: 8443}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints:
- {addresses: [10.1.0.2], conditions: {ready: true}}
ports:
- {name: http, port: 8080}
";

/// A server, and a desk with a kubectl that is set up for it.
struct Desk {
    server: ApiServer,
    namespace: Namespace,
    home: Scratch,
}

impl Desk {
    fn new() -> Outcome<Self> {
        let namespace = Namespace::new("kubectl")?;
        namespace.enter(|| Wire::open()?.up("lo"))??;
        let listener = namespace.enter(|| TcpListener::bind("127.0.0.1:0"))??;
        let server = ApiServer::start(listener, Options::default())?;
        let home = Scratch::new()?;
        fs::write(home.path().join("config"), server.kubeconfig())?;
        Ok(Self { server, namespace, home })
    }

    fn kubectl(&self, arguments: &str) -> Invocation {
        let home = self.home.path();
        let kubectl = Invocation::foreign("kubectl").args(arguments.split_whitespace());
        kubectl.env("HOME", &home).env("KUBECONFIG", home.join("config"))
    }

    /// Runs it with a document on its standard input.
    fn run(&self, arguments: &str, input: &str) -> Outcome<Output> {
        Ok(self.kubectl(arguments).input(input).run(&self.namespace)?)
    }

    /// Runs it, and gives what it prints if it succeeds.
    fn prints(&self, arguments: &str, input: &str) -> Outcome<String> {
        let output = self.run(arguments, input)?;
        assert!(output.status.success(), "kubectl {arguments}: {}{}", output.stdout, output.stderr);
        Ok(output.stdout)
    }

    fn web(&self) -> Value {
        self.server.get("services", "default", "web").map(|it| Value::clone(&it)).unwrap_or_default()
    }
}

/// The lines of a table, each as its words.
fn table(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn kubectl_creates_shows_replaces_and_deletes_objects() -> Outcome {
    let desk = Desk::new()?;
    let created = desk.prints("create -f -", WEB)?;
    assert_eq!(created, "service/web created\nendpointslice.discovery.k8s.io/web-1 created\n");
    let shown = desk.prints("get svc", "")?;
    let lines = table(&shown);
    assert_eq!(lines[0], ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]);
    assert_eq!(lines[1][..5], ["web", "ClusterIP", "10.96.0.1", "<none>", "80/TCP,443/TCP"]);
    let slices = desk.prints("get endpointslices", "")?;
    assert_eq!(table(&slices)[1][..4], ["web-1", "IPv4", "8080", "10.1.0.2"]);

    let document = desk.prints("get svc web -o json", "")?;
    assert_eq!(serde_json::from_str::<Value>(&document)?, desk.web());
    assert!(desk.prints("get svc web -o yaml", "")?.contains("clusterIP: 10.96.0.1"));
    let changed = document.replace("\"port\": 443", "\"port\": 8443");
    assert_eq!(desk.prints("replace -f -", &changed)?, "service/web replaced\n");
    assert_eq!(desk.web()["spec"]["ports"][1]["port"], 8443);
    let stale = desk.run("replace -f -", &document)?;
    assert!(stale.stderr.contains("the object has been modified"), "{}", stale.stderr);

    desk.prints("delete -f -", WEB)?;
    assert_eq!(desk.web(), Value::Null);
    let absent = desk.run("get svc web", "")?;
    assert_eq!(
        (absent.status.code(), absent.stderr.trim()),
        (Some(1), r#"Error from server (NotFound): services "web" not found"#)
    );
    Ok(())
}

#[test]
fn kubectl_applies_labels_annotates_and_patches() -> Outcome {
    let desk = Desk::new()?;
    desk.prints("apply -f -", WEB)?;
    assert!(desk.prints("apply -f -", WEB)?.contains("service/web unchanged"));
    // What an apply no longer says is removed, what others have set stays.
    desk.prints("label svc web tier=front", "")?;
    desk.prints("annotate svc web note=kept", "")?;
    let fewer = WEB.replace("  - {name: https, port: 443, targetPort: 8443}\n", "").replace("8080", "9090");
    assert!(desk.prints("apply -f -", &fewer)?.contains("service/web configured"));
    let web = desk.web();
    assert_eq!(
        web["spec"]["ports"],
        json!([{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 9090}])
    );
    assert_eq!(web["metadata"]["labels"], json!({"app": "web", "tier": "front"}));
    assert_eq!(web["metadata"]["annotations"]["note"], "kept");

    desk.prints(r#"patch svc web -p {"spec":{"type":"NodePort"}}"#, "")?;
    assert_eq!(desk.web()["spec"]["ports"][0]["nodePort"], 30_000);
    desk.prints(
        r#"patch svc web --type=json -p [{"op":"replace","path":"/spec/type","value":"ClusterIP"}]"#,
        "",
    )?;
    assert_eq!(desk.web()["spec"]["ports"][0]["nodePort"], Value::Null);
    desk.prints(r#"patch svc web --type=merge -p {"metadata":{"labels":{"tier":null}}}"#, "")?;
    assert_eq!(desk.web()["metadata"]["labels"], json!({"app": "web"}));
    assert_eq!(desk.prints("apply --server-side -f -", WEB)?.lines().count(), 2);
    assert_eq!(desk.web()["spec"]["ports"].as_array().map(Vec::len), Some(2));
    Ok(())
}

#[test]
fn kubectl_watches_objects_come_change_and_go() -> Outcome {
    let desk = Desk::new()?;
    desk.prints("create -f -", WEB)?;
    let watch = desk.kubectl("get svc -w -o wide").start(&desk.namespace)?;
    watch.prints("80/TCP,443/TCP")?;
    desk.prints(r#"patch svc web -p {"spec":{"type":"NodePort"}}"#, "")?;
    watch.prints("80:30000/TCP,443:30001/TCP")?;
    let other = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "other"},
        "spec": {"ports": [{"port": 53, "protocol": "UDP"}]}});
    desk.server.apply(other)?;
    watch.prints("53/UDP")?;
    // kubectl waits for the end of an object by watching it.
    desk.prints("delete svc web --timeout=20s", "")?;
    assert_eq!(desk.web(), Value::Null);
    Ok(())
}

#[test]
fn kubectl_describes_and_finds_every_kind() -> Outcome {
    let desk = Desk::new()?;
    desk.prints("create -f -", WEB)?;
    let described = desk.prints("describe svc web", "")?;
    for line in ["Name:", "Selector:", "app=web", "10.96.0.1", "http  80/TCP"] {
        assert!(described.contains(line), "{line} in {described}");
    }
    let kinds = desk.prints("api-resources -o name", "")?;
    let mut kinds: Vec<_> = kinds.lines().collect();
    kinds.sort_unstable();
    let expected = [
        "clusterrolebindings.rbac.authorization.k8s.io",
        "clusterroles.rbac.authorization.k8s.io",
        "configmaps",
        "daemonsets.apps",
        "endpointslices.discovery.k8s.io",
        "events",
        "events.events.k8s.io",
        "namespaces",
        "networkpolicies.networking.k8s.io",
        "nodes",
        "pods",
        "serviceaccounts",
        "servicecidrs.networking.k8s.io",
        "services",
    ];
    assert_eq!(kinds, expected);
    desk.server.apply(
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}, "status": {
            "conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1.34.0"},
        }}),
    )?;
    assert_eq!(table(&desk.prints("get nodes", "")?)[1][..4], ["node-1", "Ready", "<none>", "v1.34.0"]);
    assert!(desk.prints("describe node node-1", "")?.contains("node-1"));
    assert!(desk.prints("get all --all-namespaces", "")?.contains("service/web"));
    Ok(())
}

#[test]
fn kubectl_is_told_what_is_wrong() -> Outcome {
    let desk = Desk::new()?;
    let invalid = desk.run("create -f -", &WEB.replace("port: 443", "port: 70000"))?;
    assert_eq!(invalid.status.code(), Some(1));
    let said = "spec.ports[1].port: Invalid value: 70000: must be between 1 and 65535, inclusive";
    assert!(invalid.stderr.contains(said), "{}", invalid.stderr);
    let mut config: Value = serde_json::from_str(&desk.server.kubeconfig())?;
    config["users"][0]["user"]["token"] = json!("stolen");
    fs::write(desk.home.path().join("config"), config.to_string())?;
    let stranger = desk.run("get svc", "")?;
    assert!(stranger.stderr.contains("Unauthorized"), "{}", stranger.stderr);
    Ok(())
}
