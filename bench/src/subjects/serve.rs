//! What a subject's node is loaded with.
//!
//! What proxies have told the kernel stays when they end, so that none runs beside the load.

use crate::api::Api;
use crate::cluster::Size;
use crate::control::follow::write;
use crate::interrupt::Interrupt;
use crate::layout::{self, Kind};
use crate::subjects::Subject;
use crate::{Failure, kube_proxy};
use heddle_netlink::{Family, Socket, bridge, link};
use heddle_tests::lab::Node;
use heddle_tests::process::Invocation;
use heddle_tests::proxy::Proxy;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// More than a loaded machine needs for the largest cluster.
const LOADING: Duration = Duration::from_secs(180);
/// The same for a proxy whose work grows faster than the cluster.
const SLOW: Duration = Duration::from_secs(900);
/// One rule that asks for a connection's state is enough for the kernel to track all of them.
const TRACKING: &str = "table ip tracking {
  chain forward { type filter hook forward priority 0; ct state invalid counter; }
}";

/// What some subjects need besides a node.
pub struct Means<'a> {
    /// The node's object.
    pub object: Value,
    /// The binary of a kube-proxy.
    pub kube_proxy: Option<&'a Path>,
    /// Whether the last Service leads to the server.
    pub answers: &'a dyn Fn() -> Result<(), String>,
}

/// Loads it.
///
/// # Errors
/// When the kernel refuses, or the run is interrupted.
pub fn load(
    node: &Node,
    (subject, size): (Subject, Option<Size>),
    means: &Means<'_>,
    stop: &Interrupt,
) -> Result<(), Failure> {
    let size = size.unwrap_or(Size { services: 1, endpoints: 1 });
    let objects = size.objects_to_ask().chain([means.object.clone()]);
    match subject.host() {
        Subject::Direct | Subject::DirectBesideEbpf => {}
        Subject::Tracked => track(node)?,
        Subject::Nft => heddle(node, objects, &[], stop).map(drop)?,
        Subject::Ebpf => {
            let _proxy = heddle(node, objects, &[], stop)?;
            stop.eventually("a bridge whose frames pass by the rules", LOADING, || passes_by(node))?;
        }
        Subject::EbpfTracked => heddle(node, objects, &["--untracked-pods=false"], stop).map(drop)?,
        Subject::NftablesLayout => layout::load_nftables(node, size, stop)?,
        Subject::IptablesLayout => layout::load_iptables(node, size, Kind::Nft, stop)?,
        Subject::IptablesLegacyLayout => layout::load_iptables(node, size, Kind::Legacy, stop)?,
        Subject::KubeProxyIptables | Subject::KubeProxyNftables | Subject::KubeProxyIpvs => {
            kube_proxy((node, subject), objects, means, stop)?;
        }
    }
    Ok(stop.check()?)
}

fn kube_proxy(
    (node, subject): (&Node, Subject),
    objects: impl Iterator<Item = Value>,
    means: &Means<'_>,
    stop: &Interrupt,
) -> Result<(), Failure> {
    let (Some(mode), Some(program)) = (subject.mode(), means.kube_proxy) else { return Ok(()) };
    let api = Api::open(node, objects)?;
    let mut process = kube_proxy::start(program, mode, node, api.kubeconfig())?;
    stop.eventually(&format!("the Services of {}", subject.name()), SLOW, || {
        // What the program says when it ends is worth more than that nobody answers.
        kube_proxy::check(program, &mut process)
            .map_or_else(|ended| Ok(Err(ended)), |()| (means.answers)().map(Ok))
    })??;
    kube_proxy::check_mode(mode, node)
}

fn track(node: &Node) -> Result<(), Failure> {
    let done = Invocation::foreign("nft").args(["-f", "-"]).input(TRACKING).run(node.namespace())?;
    if done.status.success() { Ok(()) } else { Err(format!("nft: {}", done.stderr).into()) }
}

fn heddle(
    node: &Node,
    objects: impl Iterator<Item = Value>,
    flags: &[&str],
    stop: &Interrupt,
) -> Result<Proxy, Failure> {
    let manifests = write(node, &objects.collect::<Vec<_>>())?;
    let proxy = Proxy::start_with(node, &[&["--manifests", &manifests.folder()], flags].concat())?;
    stop.eventually("heddle-proxy's tables and programs", LOADING, || proxy.has_all(node))?;
    Ok(proxy)
}

/// Whether connections between its pods need no rule and no tracking: the last that a proxy does of it.
fn passes_by(node: &Node) -> Result<(), String> {
    let list = || link::list(&mut Socket::open(Family::Route)?, "bridge");
    let bridges = node.namespace().enter(list).map_err(|error| error.to_string())?;
    let bridges = bridges.map_err(|error| error.to_string())?;
    if bridges.iter().any(bridge::is_passing) { Ok(()) } else { Err(format!("{bridges:?}")) }
}
