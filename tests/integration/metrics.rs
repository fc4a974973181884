//! The metrics port of the real `heddle-proxy`: its paths, what moves, and an address that is taken.

#[path = "metrics/page.rs"]
mod page;
#[path = "metrics/sockets.rs"]
mod sockets;

use heddle_tests::apiserver::{ApiServer, Options};
use heddle_tests::lab::{Lab, Node};
use heddle_tests::namespace::Namespace;
use heddle_tests::objects::{list, service, slice};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::plane::Plane;
use heddle_tests::process::Invocation;
use heddle_tests::proxy::{Manifests, Proxy};
use heddle_tests::traffic::{Server, Transport, tcp};
use page::{ADDRESS, Reply, ask, ask_at, counts, get};
use serde_json::{Value, json};
use std::error::Error;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

type Outcomes = Result<(), Box<dyn Error>>;

const PROBES: &str = "0.0.0.0:10256";

/// A node with a proxy that serves what is in its manifests.
struct Stage {
    proxy: Proxy,
    manifests: Manifests,
    lab: Lab,
}

impl Stage {
    fn new(flags: &[&str]) -> Result<Self, Box<dyn Error>> {
        let lab = Lab::new(&["node-1"])?;
        let node = lab.node("node-1")?;
        let manifests = Manifests::of(node)?;
        manifests.put("web.json", &service("web", &["10.96.0.1".parse()?], 80, 8080).to_string())?;
        let folder = manifests.folder();
        let proxy = Proxy::start_with(node, &[&["--manifests", &folder], flags].concat())?;
        proxy.ready(node)?;
        Ok(Self { proxy, manifests, lab })
    }

    fn node(&self) -> Result<&Node, Box<dyn Error>> {
        Ok(self.lab.node("node-1")?)
    }
}

#[test]
fn every_path_of_kube_proxys_port_is_answered_as_there() -> Outcomes {
    let stage = Stage::new(&["--cluster-cidr=10.0.0.0/8"])?;
    let node = stage.node()?;
    let page = |path: &str| get(node, path).map_err(|error| format!("{path}: {error}"));
    for (path, body) in [("/healthz", "ok"), ("/proxyMode", "nftables")] {
        let reply = page(path)?;
        assert_eq!((reply.code(), reply.body.as_str()), ("200", body));
        assert!(reply.has("content-type: text/plain; charset=utf-8"), "{reply:?}");
        assert!(reply.has("x-content-type-options: nosniff"), "{reply:?}");
    }
    let configz: Value = serde_json::from_str(&page("/configz")?.body)?;
    assert_eq!(configz["kubeproxy.config.k8s.io"]["clusterCIDR"], "10.0.0.0/8");
    assert!(page("/flagz")?.body.contains("\nclusterCIDR=10.0.0.0/8\n"));
    assert!(page("/statusz")?.body.contains("\nUp: 0 hr 0"));
    let pings = r#"kubernetes_healthchecks_total{name="ping",status="success",type="healthz"}"#;
    assert_eq!(page("/metrics/slis")?.value(pings), Some(1.0));
    for path in ["/", "/debug/pprof/", "/debug/flags/v"] {
        assert_eq!(page(path)?.code(), "404", "{path}");
    }
    Ok(())
}

#[test]
fn old_scrapers_get_plain_text_and_those_that_ask_for_it_open_metrics() -> Outcomes {
    let stage = Stage::new(&[])?;
    let plain = get(stage.node()?, "/metrics").map_err(|error| error.to_string())?;
    assert!(plain.has("content-type: text/plain; version=0.0.4; charset=utf-8"), "{}", plain.head);
    assert!(plain.body.contains("\n# TYPE kubeproxy_sync_proxy_rules_service_changes_total counter\n"));
    let accept =
        "Accept: application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3\r\n";
    let open = ask(stage.node()?, "GET /metrics", accept).map_err(|error| error.to_string())?;
    let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(open.has(kind) && open.body.ends_with("# EOF\n"), "{}", open.head);
    Ok(())
}

fn connections(address: &str, port: u16) -> String {
    let service = r#"namespace="default",service="web",ip_family="IPv4""#;
    format!(
        r#"heddle_frontend_connections_total{{{service},address="{address}",port="{port}",protocol="tcp"}}"#
    )
}

/// In their first packet, by the frontend that they came to; the kernel's count, so that it outlives the process.
#[test]
fn connections_are_counted_by_frontend_where_that_is_asked_for() -> Outcomes {
    let lab = Lab::new(&["node-1"])?;
    let node = lab.node("node-1")?;
    let (client, web) = (node.pod("client")?, node.pod("web")?);
    let _server = Server::start(web.namespace(), "web", Transport::Tcp, 8080)?;
    let vip: SocketAddr = "10.96.0.1:80".parse()?;
    let endpoints: Vec<IpAddr> = web.addresses().iter().copied().filter(IpAddr::is_ipv4).collect();
    let mut object = service("web", &[vip.ip()], vip.port(), 8080);
    object["spec"]["type"] = json!("NodePort");
    object["spec"]["ports"][0]["nodePort"] = json!(30_080);
    let manifests = Manifests::of(node)?;
    let objects = list(&[object, slice("web", "node-1", &endpoints, 8080)]);
    manifests.put("web.json", &objects.to_string())?;
    let config = node.directory().join("config");
    let start = |counted: bool| -> Result<Proxy, Box<dyn Error>> {
        let own = json!({"manifests": manifests.folder(), "connectionMetrics": counted});
        let head = json!({"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "heddle": own});
        fs::write(&config, head.to_string())?;
        let proxy = Proxy::start_with(node, &["--config", &config.to_string_lossy()])?;
        proxy.logs("wrote the Services of this node")?;
        Ok(proxy)
    };
    let mut proxy = start(true)?;
    let reaches = |from: &Namespace, to: SocketAddr, times: usize| -> Outcomes {
        for _ in 0..times {
            assert_eq!(tcp(from, to)?.endpoint(), Some("web"));
        }
        Ok(())
    };
    reaches(client.namespace(), vip, 7)?;
    reaches(lab.outside(), SocketAddr::new(node.addresses()[0], 30_080), 3)?;
    counts(node, &connections("10.96.0.1", 80), 7.0)?;
    counts(node, &connections("node", 30_080), 3.0)?;
    proxy.process().kill()?;
    proxy = start(true)?;
    reaches(client.namespace(), vip, 1)?;
    counts(node, &connections("10.96.0.1", 80), 8.0)?;
    proxy.process().kill()?;
    let _proxy = start(false)?;
    reaches(client.namespace(), vip, 1)?;
    let reply = get(node, "/metrics").map_err(|error| error.to_string())?;
    assert!(!reply.body.contains("heddle_frontend_connections"), "{}", reply.body);
    assert!(!node.nft(["list", "map", "ip", "heddle-proxy", "services"])?.stdout.contains("counter"));
    Ok(())
}

#[test]
fn what_the_proxy_does_is_counted() -> Outcomes {
    let stage = Stage::new(&[])?;
    let node = stage.node()?;
    counts(node, "heddle_services", 1.0)?;
    let reply = get(node, "/metrics").map_err(|error| error.to_string())?;
    for series in [
        r#"kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family="IPv4"}"#,
        r#"kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv6"}"#,
        r#"heddle_kernel_operations_total{ip_family="IPv4"}"#,
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
    ] {
        assert!(reply.value(series).is_some_and(|value| value > 0.0), "{series} in {}", reply.body);
    }
    ask_at(node, PROBES, "GET /livez", "").map_err(|error| error.to_string())?;
    counts(node, r#"kubeproxy_proxy_livez_total{code="200"}"#, 1.0)?;
    let mut rival = service("rival", &["10.96.0.2".parse()?], 80, 8080);
    rival["spec"]["externalIPs"] = json!(["10.96.0.1"]);
    stage.manifests.put("rival.json", &rival.to_string())?;
    let conflicts = r#"heddle_problems{kind="Service",reason="FrontendConflict"}"#;
    counts(node, conflicts, 1.0)?;
    stage.manifests.remove("rival.json")?;
    counts(node, conflicts, 0.0)?;
    node.nft(["flush", "ruleset"])?;
    eventually("a repair", PATIENCE, || {
        let reply = get(node, "/metrics").map_err(|error| error.to_string())?;
        reply.value("heddle_drift_repairs_total").filter(|repairs| *repairs > 0.0).ok_or(reply.body)
    })?;
    Ok(())
}

#[test]
fn with_profiling_how_much_is_logged_can_be_put() -> Outcomes {
    let stage = Stage::new(&["--profiling"])?;
    let put = |body: &str| {
        let rest = format!("Content-Length: {}\r\n\r\n{body}", body.len());
        ask(stage.node()?, "PUT /debug/flags/v", &rest).map_err(|error| error.to_string().into())
    };
    let put = |body: &str| -> Result<Reply, Box<dyn Error>> { put(body) };
    let reply = put("4")?;
    assert_eq!((reply.code(), reply.body.as_str()), ("200", "successfully set klog.logging.verbosity to 4"));
    stage.manifests.remove("web.json")?;
    eventually("a line of a sync", PATIENCE, || {
        let log = stage.proxy.log();
        if log.contains("DEBUG synced") { Ok(()) } else { Err(log) }
    })?;
    assert_eq!(put("loud")?.code(), "400");
    let got = get(stage.node()?, "/debug/flags/v").map_err(|error| error.to_string())?;
    assert_eq!(got.code(), "406");
    Ok(())
}

/// kp:I8: an address that is taken is tried again, and the Services are served meanwhile.
#[test]
fn a_metrics_address_that_is_taken_is_had_when_it_is_free() -> Outcomes {
    let lab = Lab::new(&["node-1"])?;
    let node = lab.node("node-1")?;
    let taken = node.namespace().enter(|| TcpListener::bind(ADDRESS))??;
    let manifests = Manifests::of(node)?;
    let mut proxy = Proxy::start(node, &manifests)?;
    proxy.ready(node)?;
    proxy.process().prints(&format!("the metrics server cannot listen on {ADDRESS}"))?;
    drop(taken);
    eventually("the metrics server", PATIENCE, || get(node, "/healthz").map_err(|error| error.to_string()))?;
    Ok(())
}

/// kp:I8: a hard failure ends the process before any rule, with an Event on the Node.
#[test]
fn a_taken_address_ends_the_process_where_that_is_asked_for() -> Outcomes {
    let lab = Lab::new(&["node-1"])?;
    let node = lab.node("node-1")?;
    let listener = node.namespace().enter(|| TcpListener::bind("127.0.0.1:0"))??;
    let server = ApiServer::start(listener, Options::default())?;
    server.apply(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}}))?;
    let kubeconfig = node.directory().join("kubeconfig");
    fs::write(&kubeconfig, server.kubeconfig())?;
    let kubeconfig = kubeconfig.to_string_lossy();
    let flags = ["--kubeconfig", &kubeconfig, "--hostname-override=node-1", "--bind-address-hard-fail"];
    for (address, error, reason) in [
        (ADDRESS, "listen on 127.0.0.1:10249 (metricsBindAddress", "FailedToStartMetricServer"),
        (PROBES, "failed to start proxier healthz on 0.0.0.0:10256", "FailedToStartProxierHealthcheck"),
    ] {
        let _taken = node.namespace().enter(|| TcpListener::bind(address))??;
        let ended =
            Invocation::of("heddle-proxy")?.args(["--status-socket="]).args(flags).run(node.namespace())?;
        assert!(!ended.status.success() && ended.stderr.contains(error), "{ended:?}");
        let events = server.list("events");
        let event = events.iter().find(|event| event["reason"] == reason).ok_or("no such Event")?;
        assert_eq!((&event["type"], &event["regarding"]["name"]), (&json!("Warning"), &json!("node-1")));
    }
    assert_eq!(node.nft(["list", "ruleset"])?.stdout, "");
    Ok(())
}

/// The dashboard of kube-proxy that most clusters have shows them.
#[test]
fn requests_to_the_api_server_are_counted_under_client_gos_names() -> Outcomes {
    let plane = Plane::new(1)?;
    let proxy = plane.proxy(&[])?;
    proxy.ready(plane.node()?)?;
    let host = plane.server().url().replace("https://", "");
    eventually("a watch, an Event and its time", PATIENCE, || {
        let body = get(plane.node().map_err(|e| e.to_string())?, "/metrics").map_err(|e| e.to_string())?.body;
        let has = |series: String| body.contains(&series);
        let counted = has(format!(r#"rest_client_requests_total{{code="200",host="{host}",method="GET"}} "#))
            && has(format!(r#"rest_client_requests_total{{code="201",host="{host}",method="POST"}} 1"#))
            && has(format!(r#"rest_client_request_duration_seconds_count{{host="{host}",verb="POST"}} 1"#));
        if counted { Ok(()) } else { Err(body) }
    })?;
    Ok(())
}

#[test]
fn without_an_address_nobody_is_answered() -> Outcomes {
    let stage = Stage::new(&["--metrics-port=0"])?;
    let refused = stage.node()?.namespace().enter(|| TcpStream::connect(ADDRESS))?;
    assert!(refused.is_err(), "{refused:?}");
    Ok(())
}
