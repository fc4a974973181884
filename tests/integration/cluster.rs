//! The real `heddle-proxy` and the control plane of a cluster: servers that die, credentials that change, rights that are
//! missing. Whatever happens there, the rules stay and traffic flows.

use heddle_tests::apiserver::{ApiServer, Options};
use heddle_tests::lab::{Lab, Node};
use heddle_tests::objects::{service, slice};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::process::Invocation;
use heddle_tests::proxy::Proxy;
use heddle_tests::traffic::{Server, Steady, Transport};
use serde_json::{Value, json};
use std::error::Error;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;

type Outcomes = Result<(), Box<dyn Error>>;

const TARGET: u16 = 8080;

/// A node, and the API servers of its cluster.
struct Plane {
    servers: Vec<ApiServer>,
    lab: Lab,
}

impl Plane {
    fn new(count: usize) -> Result<Self, Box<dyn Error>> {
        let lab = Lab::new(&["node-1"])?;
        let network = lab.node("node-1")?.namespace();
        let listen = || network.enter(|| TcpListener::bind("127.0.0.1:0"));
        let mut servers = vec![ApiServer::start(listen()??, Options::default())?];
        for _ in 1..count {
            let server = servers[0].beside(listen()??)?;
            servers.push(server);
        }
        Ok(Self { servers, lab })
    }

    fn node(&self) -> Result<&Node, Box<dyn Error>> {
        Ok(self.lab.node("node-1")?)
    }

    fn masters(&self) -> String {
        self.servers.iter().map(ApiServer::url).collect::<Vec<_>>().join(",")
    }

    /// Writes a kubeconfig after a change. Returns where it is.
    fn kubeconfig(&self, change: impl FnOnce(&mut Value)) -> Result<String, Box<dyn Error>> {
        let mut config = serde_json::from_str(&self.servers[0].kubeconfig())?;
        change(&mut config);
        let path = self.file("kubeconfig")?;
        fs::write(&path, config.to_string())?;
        Ok(path.to_string_lossy().into_owned())
    }

    fn file(&self, name: &str) -> Result<PathBuf, Box<dyn Error>> {
        Ok(self.node()?.directory().join(name))
    }

    /// Starts the proxy on all servers.
    fn start(&self) -> Result<Proxy, Box<dyn Error>> {
        let kubeconfig = self.kubeconfig(|_| ())?;
        Ok(Proxy::start_with(self.node()?, &["--kubeconfig", &kubeconfig, "--master", &self.masters()])?)
    }

    /// Makes a Service with this address, by no server in particular.
    fn service(&self, address: &str) -> Outcomes {
        let name = format!("s{}", address.replace('.', "-"));
        self.servers[0].apply(service(&name, &[address.parse()?], 80, TARGET))?;
        Ok(())
    }

    /// Waits until the kernel knows these addresses.
    fn routes(&self, proxy: &Proxy, addresses: &[&str]) -> Outcomes {
        let node = self.node()?;
        eventually(&format!("{addresses:?} in the kernel"), PATIENCE, || {
            let listed = node.nft(["list", "ruleset"]).map_err(|error| error.to_string())?;
            let missing = addresses.iter().find(|address| !listed.stdout.contains(&format!("{address} . ")));
            missing.map_or(Ok(()), |address| Err(format!("no {address}; the proxy said:\n{}", proxy.log())))
        })?;
        Ok(())
    }

    fn has_no_table(&self) -> Outcomes {
        let listed = self.node()?.nft(["list", "tables"])?;
        assert_eq!(listed.stdout, "", "nothing was to be written");
        Ok(())
    }
}

fn user(config: &mut Value) -> &mut Value {
    &mut config["users"][0]["user"]
}

fn cluster(config: &mut Value) -> &mut Value {
    &mut config["clusters"][0]["cluster"]
}

#[test]
fn of_three_api_servers_two_may_die() -> Outcomes {
    let plane = Plane::new(3)?;
    let node = plane.node()?;
    let (client, web) = (node.pod("client")?, node.pod("web")?);
    let _server = Server::start(web.namespace(), "web", Transport::Tcp, TARGET)?;
    let vip: SocketAddr = "10.96.0.10:80".parse()?;
    let endpoints: Vec<IpAddr> = web.addresses().iter().copied().filter(IpAddr::is_ipv4).collect();
    plane.servers[0].apply(service("web", &[vip.ip()], vip.port(), TARGET))?;
    plane.servers[0].apply(slice("web", "node-1", &endpoints, TARGET))?;
    let proxy = plane.start()?;
    proxy.ready(node)?;
    plane.routes(&proxy, &["10.96.0.10"])?;
    let steady = Steady::start(client.namespace(), Transport::Tcp, vip)?;
    steady.sees(20)?;
    plane.servers[0].refuse()?;
    plane.service("10.96.0.11")?;
    plane.routes(&proxy, &["10.96.0.10", "10.96.0.11"])?;
    plane.servers[1].refuse()?;
    plane.service("10.96.0.12")?;
    plane.routes(&proxy, &["10.96.0.10", "10.96.0.12"])?;
    plane.servers[2].refuse()?;
    steady.sees(50)?;
    plane.routes(&proxy, &["10.96.0.10", "10.96.0.11", "10.96.0.12"])?;
    plane.service("10.96.0.13")?;
    plane.servers[1].listen()?;
    plane.routes(&proxy, &["10.96.0.10", "10.96.0.13"])?;
    let report = steady.stop()?;
    assert!(report.failures.is_empty(), "{report:?}\n{}", proxy.log());
    Ok(())
}

#[test]
fn a_server_in_trouble_is_left_for_another() -> Outcomes {
    let plane = Plane::new(2)?;
    plane.servers[0].fail(500);
    plane.service("10.96.0.11")?;
    let proxy = plane.start()?;
    plane.routes(&proxy, &["10.96.0.11"])?;
    plane.servers[0].recover();
    plane.servers[1].babble();
    plane.servers[1].cut_watches();
    plane.service("10.96.0.12")?;
    plane.routes(&proxy, &["10.96.0.11", "10.96.0.12"])
}

#[test]
fn a_token_that_is_rotated_is_read_again_without_a_restart() -> Outcomes {
    let plane = Plane::new(1)?;
    let token = plane.file("token")?;
    fs::write(&token, plane.servers[0].token())?;
    let kubeconfig = plane.kubeconfig(|config| *user(config) = json!({"tokenFile": token}))?;
    plane.service("10.96.0.11")?;
    let proxy = Proxy::start_with(plane.node()?, &["--kubeconfig", &kubeconfig])?;
    plane.routes(&proxy, &["10.96.0.11"])?;
    let next = plane.servers[0].rotate_token();
    plane.servers[0].cut_watches();
    plane.service("10.96.0.12")?;
    eventually("a word on the old token", PATIENCE, || {
        let log = proxy.log();
        if log.contains("does not accept our credentials (401)") { Ok(()) } else { Err(log) }
    })?;
    plane.routes(&proxy, &["10.96.0.11"])?;
    fs::write(&token, next)?;
    plane.routes(&proxy, &["10.96.0.11", "10.96.0.12"])
}

#[test]
fn without_the_right_to_see_service_cidrs_the_rest_works() -> Outcomes {
    let plane = Plane::new(1)?;
    plane.servers[0].forbid(Some("servicecidrs"));
    plane.service("10.96.0.11")?;
    let proxy = plane.start()?;
    plane.routes(&proxy, &["10.96.0.11"])?;
    let word = "no right to watch servicecidrs.networking.k8s.io";
    eventually(word, PATIENCE, || if proxy.log().contains(word) { Ok(()) } else { Err(proxy.log()) })?;
    assert_eq!(proxy.log().matches("the API server fails").count(), 1, "{}", proxy.log());
    plane.servers[0].cut_watches();
    plane.service("10.96.0.12")?;
    plane.routes(&proxy, &["10.96.0.12"])?;
    assert_eq!(proxy.log().matches(word).count(), 1, "{}", proxy.log());
    Ok(())
}

#[test]
fn without_the_right_to_see_services_nothing_is_written_until_it_is_given() -> Outcomes {
    let plane = Plane::new(1)?;
    plane.servers[0].forbid(Some("services"));
    plane.service("10.96.0.11")?;
    let proxy = plane.start()?;
    eventually("the right that is missing", PATIENCE, || {
        let log = proxy.log();
        if log.contains("no right to watch services ") { Ok(()) } else { Err(log) }
    })?;
    plane.has_no_table()?;
    plane.servers[0].forbid(None);
    plane.routes(&proxy, &["10.96.0.11"])
}

/// Starts the proxy with a kubeconfig that is wrong in one thing, waits for what it says, then rights that thing.
fn says(word: &str, spoil: impl FnOnce(&Plane, &mut Value) -> String) -> Outcomes {
    let plane = Plane::new(1)?;
    plane.service("10.96.0.11")?;
    let mut master = String::new();
    let kubeconfig = plane.kubeconfig(|config| master = spoil(&plane, config))?;
    let proxy = Proxy::start_with(plane.node()?, &["--kubeconfig", &kubeconfig, "--master", &master])?;
    eventually(word, PATIENCE, || {
        let log = proxy.log();
        if log.contains(word) { Ok(()) } else { Err(log) }
    })?;
    plane.has_no_table()?;
    plane.kubeconfig(|config| cluster(config)["tls-server-name"] = json!("localhost"))?;
    plane.routes(&proxy, &["10.96.0.11"])
}

#[test]
fn a_server_of_another_authority_is_not_believed() -> Outcomes {
    let other = Plane::new(1)?;
    let foreign: Value = serde_json::from_str(&other.servers[0].kubeconfig())?;
    says("its certificate is not from the certificate authority", |plane, config| {
        *cluster(config) = foreign["clusters"][0]["cluster"].clone();
        plane.servers[0].url()
    })
}

#[test]
fn a_server_under_another_name_is_not_believed_until_the_name_is_given() -> Outcomes {
    says("its certificate is not for this address (tls-server-name", |plane, config| {
        cluster(config)["tls-server-name"] = json!("elsewhere");
        plane.servers[0].url()
    })
}

#[test]
fn without_credentials_that_can_be_used_nothing_is_started() -> Outcomes {
    let plane = Plane::new(1)?;
    let missing = plane.file("missing")?.to_string_lossy().into_owned();
    let exec = json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "touch",
        "args": [missing], "interactiveMode": "Never"}});
    let wrongs = [
        (json!({"tokenFile": missing}), "cannot read "),
        (exec, "exec is not supported"),
        (json!({"client-certificate-data": "AA==", "client-key-data": "AA=="}), "cannot make a client"),
    ];
    for (wrong, word) in wrongs {
        let kubeconfig = plane.kubeconfig(|config| *user(config) = wrong)?;
        let node = plane.node()?;
        let run = Invocation::of("heddle-proxy")?
            .args(["--kubeconfig", &kubeconfig, "--status-socket="])
            .run(node.namespace())?;
        assert!(!run.status.success() && run.stderr.contains(word), "{run:?}");
        plane.has_no_table()?;
        assert!(!fs::exists(&missing)?, "a program was started");
    }
    Ok(())
}

#[test]
fn who_has_only_the_service_is_told_what_to_give() -> Outcomes {
    let plane = Plane::new(1)?;
    let run = |variables: &[(&str, &str)]| -> Result<_, Box<dyn Error>> {
        let mut run =
            Invocation::of("heddle-proxy")?.args(["--hostname-override", "node-1", "--status-socket="]);
        for (name, value) in variables {
            run = run.env(name, value);
        }
        Ok(run.run(plane.node()?.namespace())?)
    };
    let ended = run(&[])?;
    assert!(
        !ended.status.success() && ended.stderr.contains("neither --kubeconfig nor --master"),
        "{ended:?}"
    );
    let ended = run(&[("KUBERNETES_SERVICE_HOST", "10.96.0.1"), ("KUBERNETES_SERVICE_PORT", "443")])?;
    assert!(!ended.status.success() && ended.stderr.contains("serviceaccount"), "{ended:?}");
    plane.has_no_table()
}
