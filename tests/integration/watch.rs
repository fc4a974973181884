//! The proxy's source of objects against an API server that misbehaves: what the model holds must end as what the server
//! holds, and must never lose what the server has not taken back.

#[path = "watch/breaks.rs"]
mod breaks;
#[path = "watch/follows.rs"]
mod follows;
#[path = "watch/servers.rs"]
mod servers;

use heddle_proxy::model::{Change, Kind, Model, ObjectName};
use heddle_proxy::watch::{self, Limits};
use heddle_tests::apiserver::{ApiServer, Options};
use heddle_tests::namespace::Namespace;
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::scratch::Scratch;
use heddle_tests::wire::Wire;
use serde_json::{Value, json};
use std::error::Error;
use std::fs;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
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

    /// Waits until every kind is complete, also those that nobody waits for, and forgets what was said until then.
    fn rests(&self) -> Outcomes {
        let all = [Kind::Service, Kind::Slice, Kind::Node, Kind::ServiceCidr].map(Change::Complete);
        eventually("every kind to be complete", PATIENCE, || {
            self.with(|heard| {
                if let Some(missing) = all.iter().find(|one| !heard.changes.contains(one)) {
                    return Err(format!("no {missing:?}"));
                }
                heard.changes.clear();
                Ok(())
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
