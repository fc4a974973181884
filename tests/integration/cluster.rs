//! The real `heddle-proxy` and the control plane of a cluster: servers that die, credentials that change, rights that are
//! missing. Whatever happens there, the rules stay and traffic flows.

use heddle_tests::objects::{service, slice};
use heddle_tests::plane::Plane;
use heddle_tests::process::Invocation;
use heddle_tests::proxy::Proxy;
use heddle_tests::traffic::{Server, Steady, Transport};
use serde_json::{Value, json};
use std::error::Error;
use std::fs;
use std::net::{IpAddr, SocketAddr};

type Outcomes = Result<(), Box<dyn Error>>;

const TARGET: u16 = 8080;

/// Starts the proxy on all servers.
fn start(plane: &Plane) -> Result<Proxy, Box<dyn Error>> {
    Ok(plane.proxy(&["--master", &plane.masters()])?)
}

/// Makes a Service with this address, by no server in particular.
fn put(plane: &Plane, address: &str) -> Outcomes {
    Ok(plane.put_service(address.parse()?)?)
}

/// Waits until the kernel knows these addresses.
fn routes(plane: &Plane, proxy: &Proxy, addresses: &[&str]) -> Outcomes {
    let keys: Vec<String> = addresses.iter().map(|address| format!("{address} . ")).collect();
    Ok(plane.holds(proxy, &keys.iter().map(String::as_str).collect::<Vec<_>>(), &[])?)
}

fn has_no_table(plane: &Plane) -> Outcomes {
    let listed = plane.node()?.nft(["list", "tables"])?;
    assert_eq!(listed.stdout, "", "nothing was to be written");
    Ok(())
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
    let proxy = start(&plane)?;
    proxy.ready(node)?;
    routes(&plane, &proxy, &["10.96.0.10"])?;
    let steady = Steady::start(client.namespace(), Transport::Tcp, vip)?;
    steady.sees(20)?;
    plane.servers[0].refuse()?;
    put(&plane, "10.96.0.11")?;
    routes(&plane, &proxy, &["10.96.0.10", "10.96.0.11"])?;
    plane.servers[1].refuse()?;
    put(&plane, "10.96.0.12")?;
    routes(&plane, &proxy, &["10.96.0.10", "10.96.0.12"])?;
    plane.servers[2].refuse()?;
    steady.sees(50)?;
    routes(&plane, &proxy, &["10.96.0.10", "10.96.0.11", "10.96.0.12"])?;
    put(&plane, "10.96.0.13")?;
    plane.servers[1].listen()?;
    routes(&plane, &proxy, &["10.96.0.10", "10.96.0.13"])?;
    let report = steady.stop()?;
    assert!(report.failures.is_empty(), "{report:?}\n{}", proxy.log());
    Ok(())
}

#[test]
fn a_server_in_trouble_is_left_for_another() -> Outcomes {
    let plane = Plane::new(2)?;
    plane.servers[0].fail(500);
    put(&plane, "10.96.0.11")?;
    let proxy = start(&plane)?;
    routes(&plane, &proxy, &["10.96.0.11"])?;
    plane.servers[0].recover();
    plane.servers[1].babble();
    plane.servers[1].cut_watches();
    put(&plane, "10.96.0.12")?;
    routes(&plane, &proxy, &["10.96.0.11", "10.96.0.12"])
}

#[test]
fn a_token_that_is_rotated_is_read_again_without_a_restart() -> Outcomes {
    let plane = Plane::new(1)?;
    let token = plane.file("token")?;
    fs::write(&token, plane.servers[0].token())?;
    let kubeconfig = plane.kubeconfig(|config| *user(config) = json!({"tokenFile": token}))?;
    put(&plane, "10.96.0.11")?;
    let proxy = Proxy::start_with(plane.node()?, &["--kubeconfig", &kubeconfig])?;
    routes(&plane, &proxy, &["10.96.0.11"])?;
    let next = plane.servers[0].rotate_token();
    plane.servers[0].cut_watches();
    put(&plane, "10.96.0.12")?;
    proxy.logs("does not accept our credentials (401)")?;
    routes(&plane, &proxy, &["10.96.0.11"])?;
    fs::write(&token, next)?;
    routes(&plane, &proxy, &["10.96.0.11", "10.96.0.12"])
}

#[test]
fn without_the_right_to_see_service_cidrs_the_rest_works() -> Outcomes {
    let plane = Plane::new(1)?;
    plane.servers[0].forbid(Some("servicecidrs"));
    put(&plane, "10.96.0.11")?;
    let proxy = start(&plane)?;
    routes(&plane, &proxy, &["10.96.0.11"])?;
    let word = "no right to watch servicecidrs.networking.k8s.io";
    proxy.logs(word)?;
    assert_eq!(proxy.log().matches("the API server fails").count(), 1, "{}", proxy.log());
    plane.servers[0].cut_watches();
    put(&plane, "10.96.0.12")?;
    routes(&plane, &proxy, &["10.96.0.12"])?;
    assert_eq!(proxy.log().matches(word).count(), 1, "{}", proxy.log());
    Ok(())
}

#[test]
fn without_the_right_to_see_services_nothing_is_written_until_it_is_given() -> Outcomes {
    let plane = Plane::new(1)?;
    plane.servers[0].forbid(Some("services"));
    put(&plane, "10.96.0.11")?;
    let proxy = start(&plane)?;
    proxy.logs("no right to watch services ")?;
    has_no_table(&plane)?;
    plane.servers[0].forbid(None);
    routes(&plane, &proxy, &["10.96.0.11"])
}

/// Starts the proxy with a kubeconfig that is wrong in one thing, waits for what it says, then rights that thing.
fn says(word: &str, spoil: impl FnOnce(&Plane, &mut Value) -> String) -> Outcomes {
    let plane = Plane::new(1)?;
    put(&plane, "10.96.0.11")?;
    let mut master = String::new();
    let kubeconfig = plane.kubeconfig(|config| master = spoil(&plane, config))?;
    let proxy = Proxy::start_with(plane.node()?, &["--kubeconfig", &kubeconfig, "--master", &master])?;
    proxy.logs(word)?;
    has_no_table(&plane)?;
    plane.kubeconfig(|config| cluster(config)["tls-server-name"] = json!("localhost"))?;
    routes(&plane, &proxy, &["10.96.0.11"])
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
        has_no_table(&plane)?;
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
    has_no_table(&plane)
}
