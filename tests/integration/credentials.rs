//! Who the real `heddle-proxy` is to the API server, and whom it believes: what a pod is given, and certificates that count or do not.
//!
//! Which of them end a start and which are waited for: docs/decisions/expired-certificates.md.

use heddle_tests::apiserver::{ClientPair, Validity};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::plane::{NODE, Plane};
use heddle_tests::process::{Invocation, program};
use heddle_tests::proxy::Proxy;
use serde_json::{Value, json};
use std::error::Error;
use std::fs;

type Outcomes = Result<(), Box<dyn Error>>;

const FIRST: &str = "10.96.0.11";
const SECOND: &str = "10.96.0.12";

/// Waits until the kernel knows these addresses.
fn routes(plane: &Plane, proxy: &Proxy, addresses: &[&str]) -> Outcomes {
    Ok(plane.holds(proxy, addresses, &[])?)
}

/// Waits for the word, and looks whether the proxy runs and has written nothing.
fn waits(plane: &Plane, proxy: &mut Proxy, word: &str) -> Outcomes {
    proxy.logs(word)?;
    assert_eq!(plane.node()?.nft(["list", "tables"])?.stdout, "", "nothing was to be written");
    assert!(proxy.process().is_running()?, "{}", proxy.log());
    Ok(())
}

/// Neither `--kubeconfig` nor `--master`; the token's rotation included.
#[test]
fn in_a_pod_the_files_of_its_service_account_are_all_that_is_needed() -> Outcomes {
    let plane = Plane::new(1)?;
    let folder = plane.file("serviceaccount")?;
    fs::create_dir(&folder)?;
    fs::write(folder.join("ca.crt"), plane.server().authority())?;
    fs::write(folder.join("token"), plane.server().token())?;
    plane.put_service(FIRST.parse()?)?;
    // What the kubelet mounts, seen by this process alone.
    let mounted = "mount -t tmpfs none /var/run && mkdir -p /var/run/secrets/kubernetes.io && \
        ln -s \"$1\" /var/run/secrets/kubernetes.io/serviceaccount && exec \"$0\" --hostname-override \"$2\" --status-socket=";
    let url = plane.server().url();
    let (_, port) = url.rsplit_once(':').ok_or("no port")?;
    let shell = Invocation::foreign("unshare").args(["--mount", "sh", "-c", mounted]);
    let shell = shell.args([program("heddle-proxy")?, folder.clone(), NODE.into()]);
    let pod = shell.env("KUBERNETES_SERVICE_HOST", "127.0.0.1").env("KUBERNETES_SERVICE_PORT", port);
    let proxy = Proxy::from(pod.start(plane.node()?.namespace())?);
    routes(&plane, &proxy, &[FIRST])?;
    fs::write(folder.join("token"), plane.server().rotate_token())?;
    plane.server().cut_watches();
    plane.put_service(SECOND.parse()?)?;
    routes(&plane, &proxy, &[FIRST, SECOND])
}

/// A proxy that has a client certificate and no token; the files of the certificate can be written anew.
fn with_certificate(plane: &Plane, pair: &ClientPair) -> Result<Proxy, Box<dyn Error>> {
    let files = [("client-certificate", &pair.certificate), ("client-key", &pair.key)];
    let mut user = json!({});
    for (field, pem) in files {
        let path = plane.file(field)?;
        fs::write(&path, pem)?;
        user[field] = json!(path);
    }
    let kubeconfig = plane.kubeconfig(|config: &mut Value| config["users"][0]["user"] = user)?;
    Ok(Proxy::start_with(plane.node()?, &["--kubeconfig", &kubeconfig])?)
}

fn renew(plane: &Plane, pair: &ClientPair) -> Outcomes {
    fs::write(plane.file("client-key")?, &pair.key)?;
    Ok(fs::write(plane.file("client-certificate")?, &pair.certificate)?)
}

#[test]
fn a_client_certificate_is_enough_and_one_that_has_expired_does_not_take_its_place() -> Outcomes {
    let plane = Plane::new(1)?;
    plane.put_service(FIRST.parse()?)?;
    let proxy = with_certificate(&plane, &plane.server().client_certificate(Validity::Present)?)?;
    routes(&plane, &proxy, &[FIRST])?;
    renew(&plane, &plane.server().client_certificate(Validity::Past)?)?;
    plane.server().cut_watches();
    proxy.logs("the client certificate expired at 2020-01-01T00:00:00Z, or this node's clock is wrong")?;
    plane.put_service(SECOND.parse()?)?;
    routes(&plane, &proxy, &[FIRST, SECOND])
}

#[test]
fn a_start_with_a_client_certificate_that_has_expired_ends_in_one_line_that_names_the_file() -> Outcomes {
    let plane = Plane::new(1)?;
    let mut proxy = with_certificate(&plane, &plane.server().client_certificate(Validity::Past)?)?;
    assert_eq!(proxy.process().wait(PATIENCE)?.code(), Some(1));
    let log = proxy.log();
    let errors: Vec<&str> = log.lines().filter(|line| line.contains(" ERROR ")).collect();
    let named = format!("{}: the client certificate expired at ", plane.file("kubeconfig")?.display());
    assert!(errors.len() == 1 && errors[0].contains(&named), "{log}");
    assert_eq!(plane.node()?.nft(["list", "tables"])?.stdout, "", "nothing was to be written");
    Ok(())
}

#[test]
fn a_client_certificate_that_the_server_refuses_is_said_and_the_next_one_is_tried() -> Outcomes {
    let plane = Plane::new(1)?;
    let foreign = Plane::new(1)?.server().client_certificate(Validity::Present)?;
    plane.put_service(FIRST.parse()?)?;
    let mut proxy = with_certificate(&plane, &foreign)?;
    waits(&plane, &mut proxy, "it does not accept our client certificate")?;
    renew(&plane, &plane.server().client_certificate(Validity::Present)?)?;
    routes(&plane, &proxy, &[FIRST])
}

#[test]
fn a_server_whose_certificate_has_expired_is_named_and_waited_for_and_takes_no_rule_with_it() -> Outcomes {
    let plane = Plane::new(1)?;
    let word = "its certificate has expired, or this node's clock is wrong";
    plane.server().renew_certificate(Validity::Past)?;
    plane.put_service(FIRST.parse()?)?;
    let mut proxy = plane.proxy(&[])?;
    waits(&plane, &mut proxy, word)?;
    plane.server().renew_certificate(Validity::Present)?;
    routes(&plane, &proxy, &[FIRST])?;
    let before = proxy.log().matches(word).count();
    plane.server().renew_certificate(Validity::Past)?;
    plane.server().refuse()?;
    plane.server().listen()?;
    eventually(word, PATIENCE, || {
        let log = proxy.log();
        if log.matches(word).count() > before { Ok(()) } else { Err(log) }
    })?;
    plane.put_service(SECOND.parse()?)?;
    routes(&plane, &proxy, &[FIRST])?;
    plane.server().renew_certificate(Validity::Present)?;
    routes(&plane, &proxy, &[FIRST, SECOND])
}
