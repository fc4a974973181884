//! The leases of the reference IPAM plugin, `host-local`, taken over in one step.
//!
//! `host-local` keeps a file for each address, named by it, that says whose it is: the container's id, and on a second line
//! the interface. Those files are read and left as they are. What becomes of the pods is not our affair: the DEL of each
//! gives its addresses back as if we had given them. Invariant: a lease that is not taken over is named.

use crate::config::ipam::Own;
use crate::failure::Failure;
use crate::ipam::{Held, Owner};
use crate::ranges::RangeSet;
use crate::store::{Store, boot_id};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// `host-local`'s own lock, which an ADD of it holds.
const LOCK: &str = "lock";
/// Where a search of it goes on; one for each range set.
const LATEST: &str = "last_reserved_ip.";
/// Before it knew interfaces, its files had one line; Kubernetes' interface is this.
const INTERFACE: &str = "eth0";

/// What was taken over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Interfaces of containers that hold addresses now and did not before.
    pub leases: usize,
    /// Those that held the same addresses already.
    pub known: usize,
    /// Files that say nothing, with the reason.
    pub skipped: Vec<(String, &'static str)>,
    /// Leases that contradict what is there.
    pub refused: Vec<Held>,
}

/// Takes over the leases in a folder of `host-local` for a network.
///
/// # Errors
/// When the folder cannot be read, or the leases not be written; then nothing has changed.
pub fn import(folder: &Path, own: &Own, network: &str) -> Result<Imported, Failure> {
    let (leases, skipped) = read_folder(folder, &own.sets).map_err(|e| unreadable(folder, &e))?;
    let mut store = Store::open(&own.leases, network, &boot_id()?)?;
    let (mut new, mut imported) = (Vec::new(), Imported { skipped, ..Imported::default() });
    for held in leases {
        if store.held_by(&held.owner)?.as_ref() == Some(&held.addresses) {
            imported.known += 1;
        } else {
            new.push(held);
        }
    }
    if !new.is_empty() {
        imported.refused = store.adopt(&own.sets, &new)?;
    }
    imported.leases = new.len() - imported.refused.len();
    Ok(imported)
}

fn unreadable(folder: &Path, error: &io::Error) -> Failure {
    Failure { code: 5, msg: format!("read {}", folder.display()), details: error.to_string() }
}

/// All leases, and the files that are none.
type Read = (Vec<Held>, Vec<(String, &'static str)>);

fn read_folder(folder: &Path, sets: &[RangeSet]) -> io::Result<Read> {
    let _lock = lock(folder)?;
    let (mut owners, mut skipped) = (BTreeMap::<Owner, Vec<IpAddr>>::new(), Vec::new());
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name == LOCK || name.starts_with(LATEST) {
            continue;
        }
        match read_lease(&path, &name) {
            Ok((owner, ip)) => owners.entry(owner).or_default().push(ip),
            Err(reason) => skipped.push((name, reason)),
        }
    }
    let set_of = |ip: &IpAddr| sets.iter().position(|set| set.assign(*ip).is_some()).unwrap_or(sets.len());
    let held = |(owner, mut addresses): (Owner, Vec<IpAddr>)| {
        addresses.sort_by_key(set_of);
        Held { owner, addresses, foreign: true }
    };
    Ok((owners.into_iter().map(held).collect(), skipped))
}

/// Nobody changes the folder while it is read.
fn lock(folder: &Path) -> io::Result<Option<File>> {
    match File::open(folder.join(LOCK)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.and_then(|file| file.lock_shared().map(|()| Some(file))),
    }
}

fn read_lease(path: &Path, name: &str) -> Result<(Owner, IpAddr), &'static str> {
    let ip = name.parse().map_err(|_| "its name is no address")?;
    let text = fs::read_to_string(path).map_err(|_| "it cannot be read as text")?;
    let mut lines = text.trim().lines().map(str::trim);
    let container = lines.next().filter(|line| !line.is_empty()).ok_or("it is empty")?;
    let ifname = lines.next().unwrap_or(INTERFACE);
    let plain = |text: &str| !text.contains(|c: char| c.is_control() || c.is_whitespace());
    let good = plain(container) && plain(ifname) && ifname.len() <= heddle_netlink::link::NAME_MAX;
    if good && lines.next().is_none() {
        Ok((Owner::new(container, ifname), ip))
    } else {
        Err("it is not a container's id and an interface")
    }
}

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "leases taken over: {}, known already: {}", self.leases, self.known)?;
        for (name, reason) in &self.skipped {
            writeln!(f, "skipped the file {name}: {reason}")?;
        }
        for Held { owner, addresses, .. } in &self.refused {
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            writeln!(
                f,
                "not taken over: {} of container {} interface {}, since that interface or one of the addresses has \
                 another lease here",
                addresses.join(", "),
                owner.container,
                owner.ifname
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranges::Written;
    use heddle_tests::scratch::Scratch;
    use std::time::Duration;

    fn own(leases: &Path) -> Own {
        let range = |subnet: &str| vec![Written { subnet: Some(subnet.to_owned()), ..Written::default() }];
        let sets = RangeSet::read_all(&[range("10.0.0.0/24"), range("fd00::/64")]).unwrap();
        let cooldown = Duration::from_secs(30);
        Own { sets, routes: Vec::new(), leases: leases.to_owned(), cooldown, resolv_conf: None }
    }

    fn folder(files: &[(&str, &str)]) -> Scratch {
        let scratch = Scratch::new().unwrap();
        files.iter().for_each(|(name, text)| fs::write(scratch.path().join(name), text).unwrap());
        scratch
    }

    #[test]
    fn every_form_of_file_is_taken_over_or_named() {
        let from = folder(&[
            ("fd00::5", "c1\r\neth0"),
            ("10.0.0.5", "c1\r\neth0"),
            ("10.0.0.6", "c1\nnet1\n"),
            ("10.0.0.7", "of-old"),
            ("192.0.2.7", "c2\r\neth0"),
            ("10.0.0.8", ""),
            ("10.0.0.9", "c3\r\neth0\r\nmore"),
            ("10.0.0.10", "c4\r\na-name-that-is-too-long"),
            ("notes.txt", "c5\r\neth0"),
            ("lock", ""),
            ("last_reserved_ip.0", "10.0.0.7"),
        ]);
        let to = Scratch::new().unwrap();
        let own = own(&to.path());
        let imported = import(&from.path(), &own, "pods").unwrap();
        let skipped = [
            ("10.0.0.10", "it is not a container's id and an interface"),
            ("10.0.0.8", "it is empty"),
            ("10.0.0.9", "it is not a container's id and an interface"),
            ("notes.txt", "its name is no address"),
        ];
        assert_eq!(imported.skipped, skipped.map(|(name, reason)| (name.to_owned(), reason)));
        assert_eq!((imported.leases, imported.known, &*imported.refused), (4, 0, &[][..]));
        let mut held = Store::open(&own.leases, "pods", &boot_id().unwrap()).unwrap().holders().unwrap();
        held.sort();
        let all: Vec<_> = held
            .iter()
            .map(|held| format!("{} {} {:?}", held.owner.container, held.owner.ifname, held.addresses))
            .collect();
        assert_eq!(
            all,
            [
                "c1 eth0 [10.0.0.5, fd00::5]",
                "c1 net1 [10.0.0.6]",
                "c2 eth0 [192.0.2.7]",
                "of-old eth0 [10.0.0.7]"
            ]
        );
    }

    #[test]
    fn a_second_import_changes_nothing_and_contradictions_are_named() {
        let (from, to) = (folder(&[("10.0.0.5", "c1\r\neth0")]), Scratch::new().unwrap());
        let own = own(&to.path());
        import(&from.path(), &own, "pods").unwrap();
        fs::write(from.path().join("10.0.0.6"), "c1\r\neth0").unwrap();
        fs::write(from.path().join("10.0.0.7"), "c2\r\neth0").unwrap();
        let second = import(&from.path(), &own, "pods").unwrap();
        assert_eq!((second.leases, second.known, second.refused.len()), (1, 0, 1));
        assert_eq!(
            second.to_string(),
            "leases taken over: 1, known already: 0\nnot taken over: 10.0.0.5, 10.0.0.6 of container c1 interface \
             eth0, since that interface or one of the addresses has another lease here\n"
        );
        fs::remove_file(from.path().join("10.0.0.6")).unwrap();
        let third = import(&from.path(), &own, "pods").unwrap();
        assert_eq!((third.leases, third.known, third.refused.len()), (0, 2, 0));
    }
}
