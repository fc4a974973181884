//! What a subject's node is loaded with.
//!
//! heddle-proxy's tables and programs stay when it ends, so that no proxy runs beside the load.

use crate::cluster::Size;
use crate::interrupt::Interrupt;
use crate::layout::{self, Kind};
use crate::subjects::Subject;
use crate::{Failure, follow};
use heddle_tests::lab::Node;
use heddle_tests::process::Invocation;
use heddle_tests::proxy::Proxy;
use serde_json::Value;
use std::any::Any;
use std::time::Duration;

/// What must live as long as the rules: a proxy that takes them away when it ends, or nothing.
pub type Keeper = Option<Box<dyn Any + Send>>;

/// More than a loaded machine needs for the largest cluster.
const LOADING: Duration = Duration::from_secs(180);
/// One rule that asks for a connection's state is enough for the kernel to track all of them.
const TRACKING: &str = "table ip tracking {
  chain forward { type filter hook forward priority 0; ct state invalid counter; }
}";

/// Loads it; `object` is the node's.
///
/// # Errors
/// When the kernel refuses, or the run is interrupted.
pub fn load(
    node: &Node,
    (subject, size): (Subject, Option<Size>),
    object: Value,
    stop: &Interrupt,
) -> Result<Keeper, Failure> {
    let size = size.unwrap_or(Size { services: 1, endpoints: 1 });
    match subject.host() {
        Subject::Direct | Subject::DirectBesideEbpf => {}
        Subject::Tracked => track(node)?,
        Subject::Nft | Subject::Ebpf => heddle(node, size.objects_to_ask().chain([object]), &[], stop)?,
        Subject::EbpfUntracked => {
            heddle(node, size.objects_to_ask().chain([object]), &["--untracked-pods"], stop)?;
        }
        Subject::NftablesLayout => layout::load_nftables(node, size, stop)?,
        Subject::IptablesLayout => layout::load_iptables(node, size, Kind::Nft, stop)?,
        Subject::IptablesLegacyLayout => layout::load_iptables(node, size, Kind::Legacy, stop)?,
    }
    stop.check()?;
    Ok(None)
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
) -> Result<(), Failure> {
    let manifests = follow::write(node, &objects.collect::<Vec<_>>())?;
    let proxy = Proxy::start_with(node, &[&["--manifests", &manifests.folder()], flags].concat())?;
    stop.eventually("heddle-proxy's tables and programs", LOADING, || proxy.has_all(node))?;
    let has_rule = || {
        let listed = node.nft(["list", "chains"]).map_err(|error| error.to_string())?.stdout;
        if listed.contains("untracked") { Ok(()) } else { Err(listed) }
    };
    if !flags.is_empty() {
        stop.eventually("the rule that does not track", LOADING, has_rule)?;
    }
    Ok(())
}
