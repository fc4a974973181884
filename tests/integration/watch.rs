//! The proxy's source of objects against an API server that misbehaves: what the model holds must end as what the server
//! holds, and must never lose what the server has not taken back.

use heddle_proxy::model::{Change, Model, ObjectName};
use heddle_proxy::watch::{self, Limits};
use heddle_tests::apiserver::{ApiServer, Options};
use heddle_tests::namespace::Namespace;
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::process::Invocation;
use heddle_tests::scratch::Scratch;
use heddle_tests::wire::Wire;
use serde_json::{Value, json};
use std::error::Error;
use std::fs;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

type Outcomes = Result<(), Box<dyn Error>>;

/// An API server in a network of its own.
struct Cluster {
    namespace: Namespace,
    server: ApiServer,
    scratch: Scratch,
}

impl Cluster {
    fn new(name: &str) -> Result<Self, Box<dyn Error>> {
        let namespace = Namespace::new(name)?;
        namespace.enter(|| Wire::open()?.up("lo"))??;
        let listener = namespace.enter(|| TcpListener::bind("127.0.0.1:0"))??;
        Ok(Self {
            namespace,
            server: ApiServer::start(listener, Options::default())?,
            scratch: Scratch::new()?,
        })
    }

    fn apply_service(&self, name: &str, labels: &Value, cluster_ip: &str) -> Outcomes {
        self.server.apply(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": "shop", "labels": labels},
            "spec": {"clusterIP": cluster_ip, "ports": [{"port": 80, "targetPort": 8080}]},
        }))?;
        Ok(())
    }

    fn service(&self, name: &str, cluster_ip: &str) -> Outcomes {
        self.apply_service(name, &json!({}), cluster_ip)
    }

    fn slice(&self, name: &str, labels: &Value, addresses: &[&str]) -> Outcomes {
        let endpoints: Vec<Value> = addresses.iter().map(|address| json!({"addresses": [address]})).collect();
        self.server.apply(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": name, "namespace": "shop", "labels": labels},
            "endpoints": endpoints, "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        }))?;
        Ok(())
    }

    /// Waits until somebody has tried to connect in vain.
    fn has_refused(&self) -> Outcomes {
        eventually("a connection to be refused", PATIENCE, || match self.refused_connections() {
            Ok(1..) => Ok(()),
            outcome => Err(format!("{outcome:?}")),
        })?;
        Ok(())
    }

    /// The kernel's count of failed attempts to connect, in this network.
    fn refused_connections(&self) -> Result<u64, Box<dyn Error>> {
        let table = self.namespace.enter(|| fs::read_to_string("/proc/thread-self/net/snmp"))??;
        let mut rows = table.lines().filter_map(|line| line.strip_prefix("Tcp: "));
        let (names, counts) = rows.next().zip(rows.next()).ok_or("no row of TCP counters")?;
        let found = names.split(' ').zip(counts.split(' ')).find(|(name, _)| *name == "AttemptFails");
        Ok(found.ok_or("no count of failed attempts")?.1.parse()?)
    }

    /// Another API server of the same cluster.
    fn second_server(&self) -> Result<ApiServer, Box<dyn Error>> {
        let listener = self.namespace.enter(|| TcpListener::bind("127.0.0.1:0"))??;
        Ok(self.server.beside(listener)?)
    }

    fn delete_service(&self, name: &str) -> Outcomes {
        self.server.delete("services", "shop", name)?;
        Ok(())
    }
}

/// What the source has said so far.
#[derive(Default)]
struct Heard {
    model: Model,
    changes: Vec<Change>,
}

impl Heard {
    fn services(&self) -> Vec<String> {
        let services = self.model.services();
        services.map(|(name, service)| format!("{} {}", name.name, service.cluster_ips[0])).collect()
    }

    fn endpoints(&self, service: &str) -> Vec<String> {
        let name = ObjectName::new("shop", service);
        let slices = self.model.slices_of(&name);
        slices.flat_map(|slice| &slice.endpoints).map(|endpoint| endpoint.address.to_string()).collect()
    }

    /// The changes since the last call.
    fn take(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }
}

/// The proxy's source, running in the cluster's network until it is dropped.
struct Source {
    heard: Arc<Mutex<Heard>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<Result<(), String>, heddle_tests::namespace::Error>>>,
}

impl Source {
    fn start(cluster: &Cluster) -> Result<Self, Box<dyn Error>> {
        Self::start_with(cluster, cluster.server.url(), Limits::default())
    }

    fn start_with(cluster: &Cluster, masters: String, limits: Limits) -> Result<Self, Box<dyn Error>> {
        let kubeconfig = cluster.scratch.path().join("kubeconfig");
        fs::write(&kubeconfig, cluster.server.kubeconfig())?;
        let heard = Arc::new(Mutex::new(Heard::default()));
        let ear = Arc::clone(&heard);
        let emit = move |change: Change| {
            let mut heard = ear.lock().unwrap_or_else(PoisonError::into_inner);
            heard.model.apply(change.clone());
            heard.changes.push(change);
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = cluster.namespace.spawn(move || -> Result<(), String> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(|error| error.to_string())?.block_on(async {
                let client = watch::connect_within(Some(&kubeconfig), Some(&masters), limits).await;
                let client = client.map_err(|error| error.to_string())?;
                tokio::select! {
                    () = watch::run_api(client, "node-a", emit, drop) => Err("the watch ended".to_owned()),
                    _ = stopped => Ok(()),
                }
            })
        })?;
        Ok(Self { heard, stop: Some(stop), thread: Some(thread) })
    }

    fn with<T>(&self, look: impl FnOnce(&mut Heard) -> T) -> T {
        look(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until the model holds these Services, as `name address`, and is complete.
    fn comes_to(&self, expected: &[&str]) -> Outcomes {
        eventually("the model to hold what the server holds", PATIENCE, || {
            self.with(|heard| match heard.services() {
                services if services == expected && heard.model.ready() => Ok(()),
                services => {
                    Err(format!("{services:?}, awaited: {:?}", heard.model.awaited().collect::<Vec<_>>()))
                }
            })
        })?;
        Ok(())
    }

    fn comes_to_endpoints(&self, service: &str, expected: &[&str]) -> Outcomes {
        eventually("the endpoints of the server", PATIENCE, || {
            self.with(|heard| match heard.endpoints(service) {
                endpoints if endpoints == expected => Ok(()),
                endpoints => Err(format!("{endpoints:?}")),
            })
        })?;
        Ok(())
    }

    fn stop(mut self) -> Outcomes {
        drop(self.stop.take());
        let ended = self.thread.take().ok_or("stopped twice")?.join();
        ended.map_err(|_| "the source panicked")???;
        Ok(())
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        drop(self.stop.take());
    }
}

fn gone(name: &str) -> Change {
    Change::ServiceGone(ObjectName::new("shop", name))
}

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

#[test]
fn cut_watches_are_taken_up_where_they_broke_off() -> Outcomes {
    let cluster = Cluster::new("watch-cut")?;
    cluster.service("a", "10.96.0.1")?;
    cluster.service("b", "10.96.0.2")?;
    let source = Source::start(&cluster)?;
    source.comes_to(&["a 10.96.0.1", "b 10.96.0.2"])?;
    source.with(Heard::take);
    cluster.server.cut_watches();
    cluster.delete_service("a")?;
    cluster.service("c", "10.96.0.3")?;
    source.comes_to(&["b 10.96.0.2", "c 10.96.0.3"])?;
    let changes = source.with(Heard::take);
    assert!(!changes.contains(&gone("b")), "{changes:?}");
    source.stop()
}

/// How often Services were asked for.
fn questions(cluster: &Cluster) -> usize {
    let asked = cluster.server.asked();
    asked.iter().filter(|(asked, _)| asked.resource == "services").map(|(_, times)| times).sum()
}

/// Waits until they were asked for again.
fn asks_again(cluster: &Cluster, before: usize) -> Outcomes {
    eventually("another question", PATIENCE, || match questions(cluster) {
        asked if asked > before => Ok(()),
        asked => Err(format!("{asked} after {before}")),
    })?;
    Ok(())
}

#[test]
fn a_watch_that_breaks_off_in_the_middle_of_an_object_loses_nothing() -> Outcomes {
    let cluster = Cluster::new("watch-half")?;
    cluster.service("a", "10.96.0.1")?;
    cluster.service("b", "10.96.0.2")?;
    let source = Source::start(&cluster)?;
    source.comes_to(&["a 10.96.0.1", "b 10.96.0.2"])?;
    source.with(Heard::take);
    let before = questions(&cluster);
    cluster.server.halve();
    cluster.service("c", "10.96.0.3")?;
    cluster.delete_service("a")?;
    asks_again(&cluster, before)?;
    assert_eq!(source.with(Heard::take), [], "half an object says nothing");
    cluster.server.recover();
    source.comes_to(&["b 10.96.0.2", "c 10.96.0.3"])?;
    let changes = source.with(Heard::take);
    assert!(!changes.contains(&gone("b")), "{changes:?}");
    source.stop()
}

#[test]
fn a_server_that_talks_nonsense_or_fails_takes_nothing_with_it() -> Outcomes {
    for (name, break_it) in
        [("watch-nonsense", ApiServer::babble as fn(&ApiServer)), ("watch-500", |server| server.fail(500))]
    {
        let cluster = Cluster::new(name)?;
        cluster.service("a", "10.96.0.1")?;
        let source = Source::start(&cluster)?;
        source.comes_to(&["a 10.96.0.1"])?;
        source.with(Heard::take);
        let before = questions(&cluster);
        break_it(&cluster.server);
        cluster.server.cut_watches();
        cluster.service("b", "10.96.0.2")?;
        asks_again(&cluster, before)?;
        assert_eq!(source.with(Heard::take), [], "nothing was said");
        cluster.server.recover();
        source.comes_to(&["a 10.96.0.1", "b 10.96.0.2"])?;
        let changes = source.with(Heard::take);
        assert!(!changes.contains(&gone("a")), "{changes:?}");
        source.stop()?;
    }
    Ok(())
}

/// What is deleted while the history is forgotten is known only from the next list.
fn survives_compaction(cluster: &Cluster) -> Outcomes {
    cluster.service("a", "10.96.0.1")?;
    cluster.service("b", "10.96.0.2")?;
    let source = Source::start(cluster)?;
    source.comes_to(&["a 10.96.0.1", "b 10.96.0.2"])?;
    source.with(Heard::take);
    cluster.server.refuse()?;
    cluster.has_refused()?;
    cluster.delete_service("a")?;
    cluster.service("c", "10.96.0.3")?;
    cluster.server.compact();
    cluster.server.listen()?;
    source.comes_to(&["b 10.96.0.2", "c 10.96.0.3"])?;
    let changes = source.with(Heard::take);
    assert!(changes.contains(&gone("a")) && !changes.contains(&gone("b")), "{changes:?}");
    source.stop()
}

#[test]
fn after_a_compaction_all_is_listed_again_and_what_is_missing_is_gone() -> Outcomes {
    survives_compaction(&Cluster::new("watch-compact")?)
}

#[test]
fn after_a_compaction_a_server_without_streaming_lists_is_listed_again() -> Outcomes {
    let cluster = Cluster::new("watch-compact-pages")?;
    cluster.server.disable_streaming_lists();
    survives_compaction(&cluster)
}

#[test]
fn a_server_that_is_away_takes_nothing_with_it() -> Outcomes {
    let cluster = Cluster::new("watch-away")?;
    cluster.service("a", "10.96.0.1")?;
    let source = Source::start(&cluster)?;
    source.comes_to(&["a 10.96.0.1"])?;
    source.with(Heard::take);
    cluster.server.refuse()?;
    cluster.has_refused()?;
    cluster.service("b", "10.96.0.2")?;
    cluster.server.listen()?;
    source.comes_to(&["a 10.96.0.1", "b 10.96.0.2"])?;
    let changes = source.with(Heard::take);
    assert!(!changes.contains(&gone("a")), "{changes:?}");
    source.stop()
}

#[test]
fn a_server_that_comes_late_is_waited_for() -> Outcomes {
    let cluster = Cluster::new("watch-late")?;
    cluster.server.refuse()?;
    let source = Source::start(&cluster)?;
    cluster.has_refused()?;
    cluster.service("a", "10.96.0.1")?;
    cluster.server.listen()?;
    source.comes_to(&["a 10.96.0.1"])?;
    source.stop()
}

#[test]
fn a_server_that_stalls_goes_on_where_it_stopped() -> Outcomes {
    let cluster = Cluster::new("watch-stall")?;
    let source = Source::start(&cluster)?;
    source.comes_to(&[])?;
    cluster.server.stall();
    cluster.service("a", "10.96.0.1")?;
    cluster.server.resume();
    source.comes_to(&["a 10.96.0.1"])?;
    source.stop()
}

/// Short enough for a test to wait for; an answer takes a millisecond.
const SHORT: Limits = Limits {
    connect: Duration::from_secs(1),
    answer: Duration::from_secs(2),
    silence: Duration::from_millis(500),
};

#[test]
fn a_server_that_takes_connections_and_says_nothing_is_left_for_another() -> Outcomes {
    let cluster = Cluster::new("watch-mute")?;
    cluster.service("a", "10.96.0.1")?;
    let mute = cluster.namespace.enter(|| TcpListener::bind("127.0.0.1:0"))??;
    let masters = format!("https://{},{}", mute.local_addr()?, cluster.server.url());
    let source = Source::start_with(&cluster, masters, SHORT)?;
    source.comes_to(&["a 10.96.0.1"])?;
    source.stop()
}

#[test]
fn a_server_that_stalls_from_the_start_is_left_for_another() -> Outcomes {
    let cluster = Cluster::new("watch-hang")?;
    cluster.service("a", "10.96.0.1")?;
    let second = cluster.second_server()?;
    cluster.server.stall();
    let masters = format!("{},{}", cluster.server.url(), second.url());
    let source = Source::start_with(&cluster, masters, SHORT)?;
    source.comes_to(&["a 10.96.0.1"])?;
    source.stop()
}

/// The packets of a server that lost its network vanish; nothing says that the connection is over.
#[test]
fn a_watch_whose_server_fell_silent_goes_on_at_another_where_it_stopped() -> Outcomes {
    let cluster = Cluster::new("watch-hole")?;
    cluster.service("a", "10.96.0.1")?;
    cluster.service("b", "10.96.0.2")?;
    let second = cluster.second_server()?;
    let masters = format!("{},{}", cluster.server.url(), second.url());
    let source = Source::start_with(&cluster, masters, SHORT)?;
    source.comes_to(&["a 10.96.0.1", "b 10.96.0.2"])?;
    source.with(Heard::take);
    let url = cluster.server.url();
    let port = url.rsplit(':').next().ok_or("no port")?;
    let hole = format!(
        "table inet hole {{ chain input {{ type filter hook input priority 0\ntcp dport {port} drop\ntcp sport {port} drop\n}}\n}}\n"
    );
    let dug = Invocation::foreign("nft").args(["-f", "-"]).input(hole).run(&cluster.namespace)?;
    assert!(dug.status.success(), "{dug:?}");
    cluster.delete_service("a")?;
    cluster.service("c", "10.96.0.3")?;
    source.comes_to(&["b 10.96.0.2", "c 10.96.0.3"])?;
    let changes = source.with(Heard::take);
    assert!(!changes.iter().any(|change| matches!(change, Change::Complete(_))), "listed again: {changes:?}");
    source.stop()
}
