//! The loopback plugin, which containerd starts by the name `loopback` for every pod: it sets `lo` to work.
//!
//! It knows no address plan and keeps nothing, so that only ADD and CHECK have something to do. DEL leaves the link alone: it
//! goes with the pod, and a container that is about to end may still use it.

use crate::apply::{Kernel, refused};
use crate::failure::Failure;
use crate::namespace::Namespace;
use crate::node::Node;
use crate::result::{Interface, Ip, Outcome};
use crate::spec::{Add, Check};
use heddle_netlink::Batch;
use heddle_netlink::address;
use heddle_netlink::link::{self, Link, Which};

/// The one link that it is about, whatever interface the runtime names.
const LO: &str = "lo";

/// Sets the container's loopback link to work, and gives the result document: the link and its addresses, or what the plugins
/// before came to.
///
/// # Errors
/// When the namespace cannot be used, or the kernel refuses.
pub fn add(request: &Add) -> Result<String, Failure> {
    let mut kernel = open(request)?;
    let mut batch = Batch::new();
    link::set_up(&mut batch, Which::Name(LO));
    kernel.pod().request(&mut batch).map_err(refused("set the loopback link up".to_owned()))?;
    let outcome = match &request.previous {
        Some(previous) => previous.clone(),
        None => outcome(request, &mut kernel)?,
    };
    Ok(outcome.write(request.version))
}

fn open(request: &Add) -> Result<Kernel, Failure> {
    let (own, pod) = (Namespace::own()?, Namespace::open(&request.namespace)?);
    if !request.own_namespace {
        pod.check_differs(&own)?;
    }
    Ok(Kernel::open(Node::open()?, (own, pod), LO)?)
}

/// The kernel gives the link its addresses as it sets it to work.
fn outcome(request: &Add, kernel: &mut Kernel) -> Result<Outcome, Failure> {
    let Link { index, name, mac, mtu, .. } = find(kernel)?;
    let listed =
        address::list(kernel.pod(), index).map_err(refused("list the loopback addresses".to_owned()))?;
    let ip = |address| Ip { interface: Some(0), address, gateway: None };
    let lo = Interface {
        name,
        mac: mac.map(|mac| mac.to_string()).unwrap_or_default(),
        mtu: Some(mtu),
        sandbox: Some(request.namespace.clone()),
        ..Interface::default()
    };
    let ips = listed.into_iter().map(|address| ip(address.address)).collect();
    Ok(Outcome { interfaces: vec![lo], ips, ..Outcome::default() })
}

fn find(kernel: &mut Kernel) -> Result<Link, Failure> {
    let gone = || Failure {
        code: 108,
        msg: "the container has no loopback link".to_owned(),
        details: String::new(),
    };
    kernel.find_pod_link()?.ok_or_else(gone)
}

/// Succeeds when the link works.
///
/// # Errors
/// Code 108 when it is down, or what kept us from looking.
pub fn check(request: &Check) -> Result<(), Failure> {
    let lo = find(&mut open(&request.asked)?)?;
    let down = vec!["the loopback link is down".to_owned()];
    Failure::collected(
        108,
        "the container is not attached as the result says",
        if lo.up { &[] } else { &down },
    )
}
