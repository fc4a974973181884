//! The store on real files: what the next process finds, whatever happened to the folder.

use super::*;
use crate::ranges::Written;
use heddle_tests::scratch::Scratch;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

fn sets(subnets: &[&str]) -> Vec<RangeSet> {
    let written = |subnet: &&str| vec![Written { subnet: Some((*subnet).to_owned()), ..Written::default() }];
    RangeSet::read_all(&subnets.iter().map(written).collect::<Vec<_>>()).unwrap()
}

fn owner(container: &str) -> Owner {
    Owner::new(container, "eth0")
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn open(scratch: &Scratch) -> Store {
    Store::open(&scratch.path(), "pods", "boot").unwrap()
}

fn ask(sets: &[RangeSet]) -> Ask<'_> {
    Ask { sets, wanted: &[], cooldown: Duration::from_secs(30), avoid: &[] }
}

fn grant(store: &mut Store, container: &str, sets: &[RangeSet]) -> Result<Vec<IpAddr>, Error> {
    let granted = store.grant(&owner(container), &ask(sets))?;
    Ok(granted.addresses.iter().map(|assigned| assigned.address.ip()).collect())
}

fn table(scratch: &Scratch) -> PathBuf {
    scratch.path().join("pods").join(TABLE)
}

#[test]
fn what_is_granted_and_released_is_there_for_the_next_process() {
    let (scratch, sets) = (Scratch::new().unwrap(), sets(&["10.0.0.0/24", "fd00::/64"]));
    let mut store = open(&scratch);
    grant(&mut store, "a", &sets).unwrap();
    let b = grant(&mut store, "b", &sets).unwrap();
    assert!(store.release(&owner("a")).unwrap() && !store.release(&owner("a")).unwrap());
    drop(store);
    let mut store = open(&scratch);
    assert_eq!(store.holders().unwrap(), [Held { owner: owner("b"), addresses: b.clone(), foreign: false }]);
    assert_eq!((store.held_by(&owner("b")).unwrap(), store.held_by(&owner("a")).unwrap()), (Some(b), None));
    assert_eq!(grant(&mut store, "c", &sets).unwrap(), [ip("10.0.0.4"), ip("fd00::4")]);
}

#[test]
fn who_only_looks_waits_for_nobody_and_sets_nothing_right() {
    let (scratch, sets) = (Scratch::new().unwrap(), sets(&["10.0.0.0/24"]));
    let look = |boot| Store::look(&scratch.path(), "pods", boot);
    assert_eq!(look("boot").unwrap(), []);
    assert!(!scratch.path().join("pods").exists());
    let mut store = open(&scratch);
    let addresses = grant(&mut store, "a", &sets).unwrap();
    let held = [Held { owner: owner("a"), addresses, foreign: false }];
    assert_eq!(look("boot").unwrap(), held, "while another holds the lock");
    assert_eq!(look("next boot").unwrap(), []);
    fs::write(table(&scratch), [7; 9000]).unwrap();
    assert!(matches!(look("boot"), Err(Error::Damaged { .. })));
    assert_eq!(fs::read(table(&scratch)).unwrap(), [7; 9000]);
}

/// cni:#28: in the order in which they were given back, also by other processes.
#[test]
fn addresses_are_reused_first_in_first_out_over_processes() {
    let (scratch, sets) = (Scratch::new().unwrap(), sets(&["10.0.0.0/29"]));
    let all = ["a", "b", "c", "d", "e"].map(|who| grant(&mut open(&scratch), who, &sets).unwrap()[0]);
    for who in ["c", "a", "e"] {
        assert!(open(&scratch).release(&owner(who)).unwrap());
    }
    let again = ["f", "g", "h"].map(|who| grant(&mut open(&scratch), who, &sets).unwrap()[0]);
    assert_eq!(again, [all[2], all[0], all[4]]);
    assert!(grant(&mut open(&scratch), "i", &sets).is_err());
}

/// cni:6.2 (boot-id change) and decision leases.md: no pod survives a reboot.
#[test]
fn leases_of_another_boot_are_void() {
    let (scratch, sets) = (Scratch::new().unwrap(), sets(&["10.0.0.0/24"]));
    grant(&mut open(&scratch), "a", &sets).unwrap();
    let mut after = Store::open(&scratch.path(), "pods", "next boot").unwrap();
    assert!(after.holders().unwrap().is_empty() && !after.release(&owner("a")).unwrap());
    let room = |boot| Store::room(&scratch.path(), "pods", boot, &sets).unwrap()[0];
    assert_eq!((room("boot").held, room("next boot").held), (1, 0));
    assert_eq!(grant(&mut after, "b", &sets).unwrap(), [ip("10.0.0.2")]);
    assert_eq!((room("boot").held, room("next boot").held), (0, 1));
}

#[test]
fn ranges_may_change_under_leases_and_rest() {
    let (scratch, old) = (Scratch::new().unwrap(), sets(&["10.0.0.0/29"]));
    let new = sets(&["10.0.0.0/24", "fd00::/64"]);
    let mut store = open(&scratch);
    for who in ["a", "b", "c"] {
        grant(&mut store, who, &old).unwrap();
    }
    store.release(&owner("a")).unwrap();
    assert_eq!(grant(&mut store, "d", &new).unwrap(), [ip("10.0.0.5"), ip("fd00::2")], "not what rests");
    assert_eq!(store.held_by(&owner("b")).unwrap(), Some(vec![ip("10.0.0.3")]));
    let elsewhere = sets(&["10.9.0.0/24"]);
    assert_eq!(grant(&mut store, "e", &elsewhere).unwrap(), [ip("10.9.0.2")]);
    assert_eq!(store.holders().unwrap().len(), 4, "leases outside of all ranges are kept");
    let room = Store::room(&scratch.path(), "pods", "boot", &new).unwrap();
    assert_eq!((room[0].held, room[0].free(), room[1].held), (3, 250, 1), "counted for other ranges");
    assert!(store.release(&owner("c")).unwrap());
    assert_eq!(grant(&mut store, "b", &elsewhere).unwrap(), [ip("10.9.0.3")], "a retry moves");
    assert_eq!(store.holders().unwrap().len(), 3);
}

/// cni:T2: what STATUS asks for changes nothing, makes nothing, and does not wait for the lock.
#[test]
fn looking_makes_nothing_and_waits_for_nobody() {
    let (scratch, sets) = (Scratch::new().unwrap(), sets(&["10.0.0.0/29"]));
    let room = || Store::room(&scratch.path(), "pods", "boot", &sets).unwrap()[0];
    assert_eq!(room(), Room { capacity: 5, held: 0 });
    assert!(Store::open_existing(&scratch.path(), "pods", "boot").unwrap().is_none());
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    let mut store = open(&scratch);
    grant(&mut store, "a", &sets).unwrap();
    let before = fs::read(table(&scratch)).unwrap();
    assert_eq!((room().held, room().free()), (1, 4), "while another holds the lock");
    assert_eq!(fs::read(table(&scratch)).unwrap(), before);
    fs::write(table(&scratch), "").unwrap();
    assert_eq!(room().held, 0, "the next ADD begins anew");
}

#[test]
fn the_lock_keeps_others_out() {
    let scratch = Scratch::new().unwrap();
    let store = open(&scratch);
    let directory = File::open(scratch.path().join("pods")).unwrap();
    assert!(directory.try_lock().is_err());
    drop(store);
    assert!(directory.try_lock().is_ok());
}

/// cni:6.2 (truncated or zeroed state file).
#[test]
fn a_damaged_table_is_set_aside_by_whoever_meets_it() {
    let sets = sets(&["10.0.0.0/24"]);
    let damages: [fn(&mut Vec<u8>); 4] =
        [|all| all.clear(), |all| all.fill(0), |all| all.truncate(300_000), |all| all[..8].fill(7)];
    for damage in damages {
        let scratch = Scratch::new().unwrap();
        grant(&mut open(&scratch), "a", &sets).unwrap();
        let mut bytes = fs::read(table(&scratch)).unwrap();
        damage(&mut bytes);
        bytes.truncate(if bytes.len() > 200 { 290_000 } else { 0 });
        fs::write(table(&scratch), &bytes).unwrap();
        assert!(!open(&scratch).release(&owner("a")).unwrap(), "DEL succeeds");
        assert_eq!(fs::read(table(&scratch).with_extension("damaged")).unwrap(), bytes);
        assert_eq!(grant(&mut open(&scratch), "b", &sets).unwrap(), [ip("10.0.0.2")]);
    }
}

/// A table in which one slot is wrong opens well; who reads that slot finds out.
#[test]
fn damage_that_is_met_later_fails_no_command() {
    let sets = sets(&["10.0.0.0/24"]);
    for call in ["ADD", "DEL", "GC"] {
        let scratch = Scratch::new().unwrap();
        grant(&mut open(&scratch), "a", &sets).unwrap();
        let mut bytes = fs::read(table(&scratch)).unwrap();
        let slots = 32768 + 8 * BUCKETS as usize;
        bytes[slots..].fill(0);
        fs::write(table(&scratch), &bytes).unwrap();
        let mut store = open(&scratch);
        match call {
            "ADD" => assert_eq!(grant(&mut store, "b", &sets).unwrap(), [ip("10.0.0.2")]),
            "DEL" => assert!(!store.release(&owner("a")).unwrap()),
            _ => assert!(store.holders().unwrap().is_empty()),
        }
        assert!(table(&scratch).with_extension("damaged").exists());
    }
}

/// What the program wrote before the table, byte for byte.
const JOURNAL_OF_OLD: &str = include_str!("journal/written-by-0.1.txt");

#[test]
fn an_older_programs_file_is_taken_over_once() {
    let (scratch, sets) = (Scratch::new().unwrap(), sets(&["10.0.0.0/24", "fd00::/64"]));
    let old = scratch.path().join("pods").join(JOURNAL);
    fs::create_dir(scratch.path().join("pods")).unwrap();
    fs::write(&old, JOURNAL_OF_OLD).unwrap();
    assert!(open(&scratch).release(&owner("c")).unwrap(), "a DEL may come first");
    assert!(!old.exists());
    let mut store = open(&scratch);
    assert_eq!(store.held_by(&owner("b")).unwrap(), Some(vec![ip("10.0.0.3"), ip("fd00::3")]));
    assert_eq!(grant(&mut store, "d", &sets).unwrap(), [ip("10.0.0.2"), ip("fd00::2")]);
    assert_eq!(grant(&mut store, "e", &sets).unwrap(), [ip("10.0.0.4"), ip("fd00::4")]);
    assert_eq!(grant(&mut store, "f", &sets).unwrap(), [ip("10.0.0.5"), ip("fd00::5")]);
}

/// An old process that waited for the lock while a new one took its file over writes a new one.
#[test]
fn a_second_older_file_is_joined_with_the_table() {
    let (scratch, sets) = (Scratch::new().unwrap(), sets(&["10.0.0.0/24", "fd00::/64"]));
    assert_eq!(grant(&mut open(&scratch), "b", &sets).unwrap(), [ip("10.0.0.2"), ip("fd00::2")]);
    fs::write(scratch.path().join("pods").join(JOURNAL), JOURNAL_OF_OLD).unwrap();
    let mut store = open(&scratch);
    assert_eq!(store.held_by(&owner("b")).unwrap(), Some(vec![ip("10.0.0.2"), ip("fd00::2")]));
    assert_eq!(store.held_by(&owner("c")).unwrap(), Some(vec![ip("10.0.0.4"), ip("fd00::4")]));
    assert_eq!(grant(&mut store, "d", &sets).unwrap(), [ip("10.0.0.3"), ip("fd00::3")]);
}

#[test]
fn a_damaged_line_of_an_older_file_stops_grants_but_no_release() {
    let scratch = Scratch::new().unwrap();
    fs::create_dir(scratch.path().join("pods")).unwrap();
    let damaged = JOURNAL_OF_OLD.replace("10.0.0.3", "10.0.0.7");
    fs::write(scratch.path().join("pods").join(JOURNAL), damaged).unwrap();
    let error = Store::open(&scratch.path(), "pods", "boot").unwrap_err();
    assert!(error.to_string().starts_with("line 3 of"), "{error}");
    assert!(Store::open_existing(&scratch.path(), "pods", "boot").unwrap().is_none());
}

/// Fills a file system to its last block.
fn fill(scratch: &Scratch) {
    let filler = File::create(scratch.path().join("filler")).unwrap();
    for length in [4096, 1] {
        while io::Write::write_all(&mut &filler, &vec![1; length]).is_ok() {}
    }
}

/// cni:6.2 (ENOSPC), cni:D1: no place for a new table is code 5 and leaves nothing; a full disk later stops no DEL, and
/// the addresses that it gives back can be had again.
#[test]
fn a_full_disk_stops_new_leases_and_no_release() {
    let (scratch, sets) = (Scratch::of_size(1 << 20).unwrap(), sets(&["10.0.0.0/16", "fd00::/64"]));
    fill(&scratch);
    fs::create_dir(scratch.path().join("pods")).unwrap();
    let error = grant(&mut open(&scratch), "a", &sets).unwrap_err();
    assert!(matches!(error, Error::File { .. }), "{error}");
    assert_eq!(fs::read_dir(scratch.path().join("pods")).unwrap().count(), 0);
    fs::remove_file(scratch.path().join("filler")).unwrap();
    grant(&mut open(&scratch), "first", &sets).unwrap();
    fill(&scratch);
    let names: Vec<_> = (0..2000).map(|n| format!("c{n}")).collect();
    let mut given = 1;
    let refused =
        names.iter().find_map(|name| grant(&mut open(&scratch), name, &sets).map(|_| given += 1).err());
    assert!(matches!(refused, Some(Error::File { .. })), "{refused:?}");
    let holders = open(&scratch).holders().unwrap();
    assert_eq!(holders.len(), given, "the refused one has left nothing");
    assert!(holders.iter().all(|held| open(&scratch).release(&held.owner).unwrap()));
    assert!(open(&scratch).holders().unwrap().is_empty());
    grant(&mut open(&scratch), "again", &sets).unwrap();
}

/// cni:6.2 (read-only state folder).
#[test]
fn a_read_only_folder_fails_what_would_change_it() {
    let (scratch, sets) = (Scratch::new().unwrap(), sets(&["10.0.0.0/24"]));
    grant(&mut open(&scratch), "a", &sets).unwrap();
    scratch.make_read_only().unwrap();
    let mut store = open(&scratch);
    assert!(matches!(grant(&mut store, "b", &sets), Err(Error::File { .. })));
    assert!(!store.release(&owner("b")).unwrap(), "there is nothing to release");
    assert!(matches!(store.release(&owner("a")), Err(Error::File { .. })), "a later DEL goes on from there");
    assert_eq!(store.held_by(&owner("a")).unwrap(), Some(vec![ip("10.0.0.2")]));
    assert_eq!(Store::room(&scratch.path(), "pods", "boot", &sets).unwrap()[0].held, 1);
}

/// The sizes that docs/decisions/leases.md names; and an ADD among sixty thousand leases writes what it writes alone.
#[test]
fn sixty_thousand_leases_of_both_families_are_told_apart() {
    let (scratch, sets) = (Scratch::new().unwrap(), sets(&["10.0.0.0/16", "fd00::/64"]));
    let held = |n: u32| Held {
        owner: owner(&format!("{n:064x}")),
        addresses: vec![
            IpAddr::V4((0x0a00_0002 + n).into()),
            IpAddr::V6((0xfd00 << 112 | u128::from(2 + n)).into()),
        ],
        foreign: true,
    };
    let mut store = open(&scratch);
    assert!(store.adopt(&sets, &(0..60_000).map(held).collect::<Vec<_>>()).unwrap().is_empty());
    let next = held(60_000);
    assert_eq!(grant(&mut store, &next.owner.container, &sets).unwrap(), next.addresses);
    let mut all = BTreeSet::new();
    for n in (0..=60_000).step_by(997) {
        all.extend(store.held_by(&held(n).owner).unwrap().unwrap());
    }
    assert_eq!(all.len(), 2 * 61);
    assert_eq!(Store::room(&scratch.path(), "pods", "boot", &sets).unwrap()[0].held, 60_001);
    let size = fs::metadata(table(&scratch)).unwrap();
    assert!(size.len() < 24 << 20 && size.blocks() * 512 <= 24 << 20, "{} bytes", size.len());
}

#[test]
fn adopted_leases_are_all_there_at_once_and_known_ones_are_given_back() {
    let (scratch, sets) = (Scratch::new().unwrap(), sets(&["10.0.0.0/24"]));
    let mut store = open(&scratch);
    grant(&mut store, "a", &sets).unwrap();
    store.release(&owner("a")).unwrap();
    grant(&mut store, "b", &sets).unwrap();
    let held =
        |who: &str, address: &str| Held { owner: owner(who), addresses: vec![ip(address)], foreign: true };
    let more = [held("b", "10.0.0.9"), held("x", "10.0.0.3"), held("y", "10.0.0.9"), held("z", "192.0.2.1")];
    assert_eq!(store.adopt(&sets, &more).unwrap(), more[..2]);
    let foreign = |store: &mut Store| store.holders().unwrap().iter().filter(|held| held.foreign).count();
    assert_eq!((store.holders().unwrap().len(), foreign(&mut store)), (3, 2));
    assert_eq!(grant(&mut store, "c", &sets).unwrap(), [ip("10.0.0.4")], "10.0.0.2 still rests");
    grant(&mut store, "d", &self::sets(&["10.1.0.0/24"])).unwrap();
    assert_eq!(foreign(&mut store), 2, "also in a new table for other ranges");
}
