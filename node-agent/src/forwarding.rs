//! The kernel settings without which a node is no router.
//!
//! Not `rp_filter`: a packet from another node's pod comes by the link that our route to it leaves by, so the strict setting
//! lets it pass. Invariant: a setting is written only where it has another value, and what routers announce goes on to
//! count (a kernel that forwards IPv6 ignores announcements unless `accept_ra` is 2, and would lose its default route).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// A setting that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("set {} to {value}", path.display())]
pub struct Unset {
    /// Its file.
    path: PathBuf,
    /// What it should say.
    value: &'static str,
    /// Why it does not.
    #[source]
    source: io::Error,
}

/// Makes the kernel forward, with the files below `sysctl`, where `/proc/sys` is. Returns what was changed. A family that
/// the kernel does not have is left out.
///
/// # Errors
/// The first setting that cannot be written.
pub fn set(sysctl: &Path, uplinks: &BTreeSet<String>) -> Result<Vec<String>, Unset> {
    let net = sysctl.join("net");
    let mut changed = Vec::new();
    let mut set = |path: PathBuf, from: &str, to| write(&path, (from, to)).map(|done| changed.extend(done));
    set(net.join("ipv4/ip_forward"), "0", "1")?;
    let ipv6 = net.join("ipv6/conf");
    let forwarding = ipv6.join("all/forwarding");
    // Where somebody has switched it on before, what announcements mean is theirs.
    if says(&forwarding, "0") {
        // First: in between, an announcement would be ignored.
        for link in uplinks {
            set(ipv6.join(link).join("accept_ra"), "1", "2")?;
        }
        set(forwarding, "0", "1")?;
    }
    Ok(changed)
}

/// Writes a setting that has a certain value; says what was done.
fn write(path: &Path, (from, to): (&str, &'static str)) -> Result<Option<String>, Unset> {
    if !says(path, from) {
        return Ok(None);
    }
    let written = fs::write(path, to);
    written.map_err(|source| Unset { path: path.to_owned(), value: to, source })?;
    Ok(Some(format!("{} = {to}", path.display())))
}

fn says(path: &Path, value: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.trim() == value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(root: &Path, files: &[(&str, &str)]) {
        for (name, value) in files {
            let path = root.join("net").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, value).unwrap();
        }
    }

    fn read(root: &Path, name: &str) -> String {
        fs::read_to_string(root.join("net").join(name)).unwrap()
    }

    #[test]
    fn only_uplinks_that_listen_to_routers_go_on_to_and_nothing_is_written_twice() {
        let root = tempfile::tempdir().unwrap();
        let settings = [
            ("ipv4/ip_forward", "0\n"),
            ("ipv6/conf/all/forwarding", "0\n"),
            ("ipv6/conf/eth0/accept_ra", "1\n"),
            ("ipv6/conf/eth1/accept_ra", "0\n"),
            ("ipv6/conf/cni0/accept_ra", "1\n"),
        ];
        files(root.path(), &settings);
        let uplinks = ["eth0", "eth1", "gone"].map(str::to_owned).into();
        assert_eq!(set(root.path(), &uplinks).unwrap().len(), 3);
        assert_eq!(set(root.path(), &uplinks).unwrap(), [""; 0]);
        let now = settings.map(|(name, _)| read(root.path(), name).trim().to_owned());
        assert_eq!(now, ["1", "1", "2", "0", "1"]);
    }

    #[test]
    fn a_node_that_forwards_already_keeps_what_announcements_mean_to_it() {
        let root = tempfile::tempdir().unwrap();
        let settings =
            [("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1"), ("ipv6/conf/eth0/accept_ra", "1")];
        files(root.path(), &settings);
        assert_eq!(set(root.path(), &["eth0".to_owned()].into()).unwrap(), [""; 0]);
    }

    #[test]
    fn a_kernel_without_ipv6_forwards_ipv4() {
        let root = tempfile::tempdir().unwrap();
        files(root.path(), &[("ipv4/ip_forward", "0\n")]);
        assert_eq!(set(root.path(), &BTreeSet::new()).unwrap().len(), 1);
    }
}
