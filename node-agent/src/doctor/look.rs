//! The door of the doctor: reads what the node is judged by, and sends the packets.
//!
//! Nothing here judges. Invariant: nothing is changed, made or started; what is tried is refused by every kernel.

use super::abilities::Abilities;
use super::cni::{Cni, Network};
use super::facts::{Facts, Read, Sysctls};
use super::leases::{Leases, Touched};
use super::mtu::{self, Probed};
use super::others::{Networkd, Others};
use super::running::Running;
use super::{probe, sources};
use crate::cluster::Cluster;
use crate::config::{self, Source};
use crate::kernel::{Kernel, Netlink};
use crate::plan::Mode;
use heddle_cni::install::configurations::list_configurations;
use heddle_cni::install::programs::PROGRAM;
use heddle_cni::store::{Store, boot_id};
use heddle_cni::{leftovers, node};
use heddle_netlink::link::{self, Link};
use heddle_netlink::nft::TableFamily;
use heddle_netlink::nft::shared;
use heddle_netlink::{Family, Socket, address, vxlan};
use heddle_proxy::nft::{self, probe as trial, ruleset};
use heddle_proxy::{causes, cleanup};
use ipnetwork::IpNetwork;
use rustix::thread::{CapabilitySet, capabilities};
use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is to be looked at, and where it is.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The name of our own node, if it was said.
    pub named: Option<Arc<str>>,
    /// The same where nobody said it, and no agent runs.
    pub unnamed: Arc<str>,
    /// How other nodes' pods are to be reached, if it was said.
    pub mode: Option<Mode>,
    /// The socket of the agent.
    pub socket: PathBuf,
    /// Where Nodes come from, if it was said.
    pub source: Option<Source>,
    /// Where the node's files are.
    pub root: PathBuf,
    /// The folder of configurations, in there.
    pub configurations: PathBuf,
    /// The folder of plugins, in there.
    pub programs: PathBuf,
    /// Where cluster IPs come from.
    pub service_ranges: Vec<IpNetwork>,
    /// The families that the kernel has.
    pub families: Vec<TableFamily>,
}

impl Asked {
    fn file(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

/// Reads everything.
pub fn look(asked: &Asked) -> Facts {
    let links = by_socket(Family::Route, link::list_all);
    let cni = look_at_cni(asked);
    let agent = sources::ask_agent(&asked.socket);
    let mut facts = Facts {
        node: name(asked, &agent),
        cluster: cluster(asked, &agent),
        mode: mode(asked, &agent),
        agent,
        abilities: abilities(asked),
        seen: Netlink::open(&asked.families).map_err(said).and_then(|mut kernel| kernel.look().map_err(said)),
        addresses: by_socket(Family::Route, address::list_all),
        sysctls: sysctls(links.iter().flatten()),
        links,
        service_ranges: asked.service_ranges.clone(),
        leases: leases(asked, &cni.networks()),
        cni,
        others: others(asked),
        probed: Probed::default(),
    };
    let (targets, left_out) = mtu::sample(mtu::targets(&facts));
    facts.probed = Probed { answers: probe::ask(targets), left_out };
    facts
}

fn name(asked: &Asked, agent: &Read<Running>) -> Arc<str> {
    let named = asked.named.clone();
    named.unwrap_or_else(|| {
        agent.as_ref().map_or(asked.unnamed.clone(), |running| running.node.as_str().into())
    })
}

fn mode(asked: &Asked, agent: &Read<Running>) -> Mode {
    let agents = || config::mode(&agent.as_ref().ok()?.mode).ok();
    asked.mode.or_else(agents).unwrap_or_default()
}

/// What was said counts before the agent, and that before what an agent without flags would do.
fn cluster(asked: &Asked, agent: &Read<Running>) -> Read<Cluster> {
    match (&asked.source, agent) {
        (Some(source), _) => sources::cluster(source),
        (None, Ok(running)) => running.cluster(),
        (None, Err(_)) => sources::cluster(&Source::ApiServer { kubeconfig: None, master: None }),
    }
}

fn said(error: impl Error + 'static) -> String {
    causes::line(&error)
}

fn by_socket<T>(
    family: Family,
    ask: impl FnOnce(&mut Socket) -> Result<T, heddle_netlink::Error>,
) -> Read<T> {
    Socket::open(family).and_then(|mut socket| ask(&mut socket)).map_err(said)
}

fn is_admin() -> Read<bool> {
    let sets = capabilities(None).map_err(|error| error.to_string())?;
    Ok(sets.effective.contains(CapabilitySet::NET_ADMIN))
}

fn abilities(asked: &Asked) -> Abilities {
    let (admin, ipv6) = (is_admin(), asked.families.contains(&TableFamily::Ip6));
    let nf_tables = match admin {
        Ok(true) => {
            nft::apply::Netlink::open().map_err(said).map(|mut kernel| trial::probe(&mut kernel, ipv6).unable)
        }
        _ => Err("it takes CAP_NET_ADMIN".to_owned()),
    };
    Abilities {
        admin,
        release: rustix::system::uname().release().to_string_lossy().into_owned(),
        nf_tables,
        vxlan: by_socket(Family::Route, vxlan::is_supported),
        ipv6,
    }
}

/// The settings that are judged, as this namespace has them.
fn sysctls<'a>(links: impl Iterator<Item = &'a Link>) -> Sysctls {
    const FIXED: [&str; 12] = [
        "ipv4/ip_forward",
        "ipv4/conf/all/rp_filter",
        "ipv6/conf/all/forwarding",
        "ipv4/neigh/default/gc_thresh2",
        "ipv4/neigh/default/gc_thresh3",
        "ipv6/neigh/default/gc_thresh2",
        "ipv6/neigh/default/gc_thresh3",
        "bridge/bridge-nf-call-iptables",
        "bridge/bridge-nf-call-ip6tables",
        "netfilter/nf_conntrack_count",
        "netfilter/nf_conntrack_max",
        "ipv4/conf/all/forwarding",
    ];
    let of_link = |link: &Link| {
        ["ipv4/conf/{}/rp_filter", "ipv4/conf/{}/forwarding", "ipv6/conf/{}/accept_ra"]
            .map(|key| key.replace("{}", &link.name))
    };
    let keys = FIXED.into_iter().map(str::to_owned).chain(links.flat_map(of_link));
    let read = |key: String| {
        let value = fs::read_to_string(Path::new("/proc/sys/net").join(&key)).ok()?;
        Some((key, value.trim().to_owned()))
    };
    Sysctls(keys.filter_map(read).collect())
}

fn look_at_cni(asked: &Asked) -> Cni {
    let text = |path: PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (name, fs::read_to_string(&path).map_err(|error| error.to_string()))
    };
    let files = list_configurations(&asked.file(&asked.configurations)).map_err(|failure| failure.to_line());
    let programs = asked.file(&asked.programs);
    Cni {
        configurations: asked.configurations.clone(),
        files: files.map(|files| files.into_iter().map(text).collect()),
        plugins: plugins(&programs),
        version: fs::read(programs.join(PROGRAM)).ok().and_then(|program| version_in(&program)),
        programs: asked.programs.clone(),
    }
}

/// The files of a folder, and whether each may be executed; none when there is no folder.
fn plugins(folder: &Path) -> Read<BTreeMap<String, bool>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries.map_err(|error| format!("{}: {error}", folder.display()))?,
    };
    let found = entries.flatten().filter_map(|entry| {
        let about = fs::metadata(entry.path()).ok()?;
        let may = about.is_file() && about.permissions().mode() & 0o111 != 0;
        Some((entry.file_name().to_string_lossy().into_owned(), may))
    });
    Ok(found.collect())
}

/// The version that a program would print: it is in its file as text (`heddle_cni::ABOUT`), and nothing is started.
fn version_in(program: &[u8]) -> Option<String> {
    const BEGIN: &[u8] = b"heddle-cni ";
    const END: &[u8] = b": a CNI plugin";
    let ends = program.windows(END.len()).enumerate().filter(|(_, window)| *window == END);
    let before = |end: usize| {
        // No version is longer.
        let near = &program[end.saturating_sub(48)..end];
        let at = near.windows(BEGIN.len()).rposition(|window| window == BEGIN)?;
        String::from_utf8(near[at + BEGIN.len()..].to_vec()).ok()
    };
    ends.filter_map(|(end, _)| before(end)).next()
}

fn leases(asked: &Asked, networks: &[Network]) -> Leases {
    let (mut held, mut dead) = (Ok(0), Ok(Vec::new()));
    for network in networks {
        let folder = asked.file(&network.leases);
        let looked = boot_id().and_then(|boot| Store::look(&folder, &network.name, &boot));
        held = held.and_then(|held| Ok(held + looked.map_err(said)?.len()));
        let network = leftovers::Network { name: &network.name, leases: &folder };
        let found = node::Node::open().map_err(said);
        let found =
            found.and_then(|mut node| network.look_for_dead(&mut node).map_err(|failure| failure.to_line()));
        dead = dead.and_then(|mut dead: Vec<String>| {
            dead.extend(found?.iter().map(ToString::to_string));
            Ok(dead)
        });
    }
    let touched = networks.iter().find_map(|network| network.touched.clone());
    let touched = touched.map(|(file, counts)| {
        let at = fs::metadata(asked.file(&file)).and_then(|about| about.modified());
        // A file from the future was touched before the clock was set back.
        Touched { ago: at.ok().map(|at| at.elapsed().unwrap_or_default()), file, counts }
    });
    Leases { held, dead, touched: Ok(touched) }
}

fn others(asked: &Asked) -> Others {
    let has_table = |socket: &mut Socket| {
        let mut families = TableFamily::ALL.into_iter();
        families.try_fold(false, |has, family| {
            let chains = shared::survey(socket, family, ruleset::TABLE)?.chains;
            Ok(has || !chains.is_empty())
        })
    };
    Others {
        kube_proxy: by_socket(Family::Netfilter, cleanup::is_kube_proxy_here),
        heddle_proxy: by_socket(Family::Netfilter, has_table),
        networkd: networkd(asked),
    }
}

/// The settings of a systemd-networkd that runs. Of files of one name the first folder's counts, and they are read by name.
fn networkd(asked: &Asked) -> Option<Networkd> {
    const FOLDERS: [&str; 4] = ["/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd"];
    if !asked.file(Path::new("/run/systemd/netif/state")).exists() {
        return None;
    }
    let folders = FOLDERS.map(|folder| asked.file(Path::new(folder)));
    let whole = folders.iter().find_map(|folder| fs::read_to_string(folder.join("networkd.conf")).ok());
    let mut parts: BTreeMap<String, String> = BTreeMap::new();
    for entry in folders
        .iter()
        .filter_map(|folder| fs::read_dir(folder.join("networkd.conf.d")).ok())
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".conf") && !parts.contains_key(&name) {
            parts.extend(fs::read_to_string(entry.path()).ok().map(|text| (name, text)));
        }
    }
    Some(Networkd::read(whole.iter().chain(parts.values()).map(String::as_str)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_the_plugin_is_read_from_its_bytes() {
        let program = [b"\x7fELF heddle-cni ", heddle_cni::ABOUT.as_bytes(), b"\0more"].concat();
        assert_eq!(version_in(&program).as_deref(), Some(env!("CARGO_PKG_VERSION")));
        assert_eq!(version_in(b"another program"), None);
        assert_eq!(version_in(b": a CNI plugin"), None);
    }

    #[test]
    fn settings_of_networkd_come_from_its_folders_in_their_order() {
        let root = tempfile::tempdir().unwrap();
        let asked = Asked {
            named: None,
            mode: None,
            unnamed: "node-1".into(),
            socket: PathBuf::new(),
            source: None,
            root: root.path().to_owned(),
            configurations: "/etc/cni/net.d".into(),
            programs: "/opt/cni/bin".into(),
            service_ranges: Vec::new(),
            families: Vec::new(),
        };
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(networkd(&asked), None);
        write("run/systemd/netif/state", "");
        assert_eq!(networkd(&asked), Some(Networkd { routes: true, rules: true }));
        write("etc/systemd/networkd.conf", "ManageForeignRoutes=yes\n");
        write("usr/lib/systemd/networkd.conf.d/10-a.conf", "ManageForeignRoutes=yes\n");
        write("etc/systemd/networkd.conf.d/10-a.conf", "ManageForeignRoutes=no\n");
        assert_eq!(networkd(&asked), Some(Networkd { routes: false, rules: true }));
    }
}
