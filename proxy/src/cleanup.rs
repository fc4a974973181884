//! Removes what a proxy left in the kernel: our own tables and programs, and on request what kube-proxy left in any of its modes.
//!
//! Not an undo of the node: connections that are tracked stay translated, and kernel settings stay as they are, as after
//! kube-proxy's own clean-up. It goes on after a failure and tells all of them. What kube-proxy shares with kubelet or with
//! other programs stays (see [`kube`]).

pub mod kube;

use crate::dataplane::Failure;
use crate::ebpf::passing;
use crate::ebpf::pins::Pins;
use crate::nft::ruleset;
use heddle_netlink::link::{self, Which};
use heddle_netlink::nft::TableFamily;
use heddle_netlink::nft::shared::{self, Cut};
use heddle_netlink::{Batch, Errno, Error, Family, Socket, ipset, ipvs};
use std::fs;

/// How often a removal is tried again that another program's change came in between of.
const TRIES: usize = 5;

/// What a clean-up did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was removed, in words.
    pub removed: Vec<String>,
    /// What was left to the reader, with the reason, in words.
    pub left: Vec<String>,
    /// What could not be removed.
    pub failures: Vec<Failure>,
}

impl Outcome {
    fn note<E>(&mut self, what: String, done: Result<bool, E>)
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match done {
            Ok(true) => self.removed.push(what),
            Ok(false) => {}
            Err(source) => {
                self.failures.push(Failure { what: format!("remove {what}"), source: source.into() });
            }
        }
    }
}

/// Removes our own tables.
///
/// # Errors
/// When nf_tables cannot be spoken to at all.
pub fn ours() -> Result<Outcome, Error> {
    let mut netfilter = Socket::open(Family::Netfilter)?;
    let mut outcome = Outcome::default();
    for family in TableFamily::ALL {
        delete_table(&mut netfilter, family, ruleset::TABLE, &mut outcome);
    }
    Ok(outcome)
}

/// Removes the programs that serve sockets, and what they remember.
pub fn at_sockets(pins: &Pins) -> Outcome {
    let mut outcome = Outcome::default();
    outcome.note("what bridges let pass by rules".into(), passing::take_back());
    outcome.note(format!("programs in {}", pins.folder().display()), pins.remove());
    outcome
}

/// Removes what kube-proxy left: its nf_tables tables, its chains in the tables that iptables keeps in nf_tables, its IPVS
/// servers with their link, and its ipsets. Chains in the tables of iptables-legacy cannot be reached by netlink; when
/// there are such tables, the outcome says how to remove them.
///
/// # Errors
/// When nf_tables cannot be spoken to at all.
pub fn kube_proxys() -> Result<Outcome, Error> {
    let mut netfilter = Socket::open(Family::Netfilter)?;
    let mut outcome = Outcome::default();
    for family in TableFamily::ALL {
        delete_table(&mut netfilter, family, kube::TABLE, &mut outcome);
        for table in kube::IPTABLES {
            let done = cut_chains(&mut netfilter, family, table);
            outcome.note(
                format!("kube-proxy's chains in table {family} {table}"),
                done.map(|cut| !cut.is_empty()),
            );
        }
    }
    remove_virtual_servers(&mut outcome);
    remove_sets(&mut netfilter, &mut outcome);
    outcome.left.extend(legacy_tables());
    Ok(outcome)
}

/// Whether rules of kube-proxy are in the kernel's nf_tables, as far as two questions can tell.
///
/// # Errors
/// When nf_tables cannot be asked.
pub fn is_kube_proxy_here(netfilter: &mut Socket) -> Result<bool, Error> {
    for family in TableFamily::ALL {
        if shared::has_chain(netfilter, family, (kube::TABLE, kube::NFT_SERVICES))?
            || shared::has_chain(netfilter, family, ("nat", kube::IPTABLES_SERVICES))?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn delete_table(netfilter: &mut Socket, family: TableFamily, table: &str, outcome: &mut Outcome) {
    let done = shared::delete_table(netfilter, family, table);
    outcome.note(format!("table {family} {table}"), done);
}

/// Looks and cuts, and looks again when the table changed in between.
fn cut_chains(netfilter: &mut Socket, family: TableFamily, table: &str) -> Result<Cut, Error> {
    let mut tries = 0;
    loop {
        tries += 1;
        let cut = kube::cut(&shared::survey(netfilter, family, table)?);
        match shared::cut(netfilter, family, table, &cut) {
            Ok(()) => return Ok(cut),
            Err(error) if tries < TRIES && matches!(error.errno(), Some(Errno::NOENT | Errno::BUSY)) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The link tells that kube-proxy's ipvs mode ran: without it the virtual servers are somebody else's.
fn remove_virtual_servers(outcome: &mut Outcome) {
    let mut flush = || -> Result<bool, Error> {
        let mut route = Socket::open(Family::Route)?;
        let Some(link) = link::fetch(&mut route, Which::Name(kube::IPVS_LINK))? else { return Ok(false) };
        outcome.note(
            "virtual servers of IPVS".into(),
            Socket::open(Family::Generic).and_then(|mut s| ipvs::flush(&mut s)),
        );
        let mut batch = Batch::new();
        link::delete(&mut batch, Which::Index(link.index));
        route.request(&mut batch).map(|()| true)
    };
    let done = flush();
    outcome.note(format!("link {}", kube::IPVS_LINK), done);
}

fn remove_sets(netfilter: &mut Socket, outcome: &mut Outcome) {
    // A kernel without ipset has none of its sets either; what else may be wrong has been said by the tables.
    let Ok(names) = ipset::names(netfilter) else { return };
    for name in names.iter().filter(|name| name.starts_with(kube::SET_PREFIX)) {
        let done = ipset::destroy(netfilter, name).map(|()| true);
        outcome.note(format!("ipset {name}"), done);
    }
}

fn legacy_tables() -> Option<String> {
    let files = [
        ("iptables", "/proc/thread-self/net/ip_tables_names"),
        ("ip6tables", "/proc/thread-self/net/ip6_tables_names"),
    ];
    let tools: Vec<&str> =
        files.into_iter().filter(|(_, file)| has_tables(file)).map(|(tool, _)| tool).collect();
    if tools.is_empty() {
        return None;
    }
    let command = |tool: &&str| format!("{tool}-legacy-save | grep -v KUBE- | {tool}-legacy-restore");
    let commands: Vec<String> = tools.iter().map(command).collect();
    Some(format!(
        "tables of iptables-legacy, which may hold chains of kube-proxy: look with `iptables-legacy-save`, remove with `{}`",
        commands.join("; ")
    ))
}

/// Whether iptables-legacy has used one of kube-proxy's tables in this network namespace: a line of the file is a table.
fn has_tables(file: &str) -> bool {
    let names = fs::read_to_string(file).unwrap_or_default();
    names.lines().any(|name| kube::IPTABLES.contains(&name))
}

/// Names of what was removed, for a log line.
pub fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing was there".to_owned() } else { names.join(", ") }
}
