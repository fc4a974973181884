//! The system call `bpf`, as far as the loader library has no call for it, and memory that a map shares with us.
//!
//! Nothing here decides anything. Invariant: a file descriptor that is returned is owned, and is closed with its value.

#![expect(unsafe_code, reason = "a system call whose arguments are pointers, and memory that is a map's")]

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Commands (`enum bpf_cmd`).
const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE: libc::c_long = 2;
const MAP_DELETE: libc::c_long = 3;
const OBJECT_PIN: libc::c_long = 6;
const OBJECT_GET: libc::c_long = 7;
const INFO: libc::c_long = 15;
const MAP_LOOKUP_BATCH: libc::c_long = 24;
const MAP_UPDATE_BATCH: libc::c_long = 26;
const LINK_CREATE: libc::c_long = 28;
const LINK_UPDATE: libc::c_long = 29;

/// Kinds of maps (`enum bpf_map_type`).
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(super) enum Kind {
    Hash = 1,
    Array = 2,
    LruHash = 9,
}

/// `BPF_F_NO_PREALLOC`
pub(super) const GROWS: u32 = 1;
/// `BPF_F_MMAPABLE` (5.5)
pub(super) const SHARED: u32 = 1 << 10;

/// The longest name of an object, its end included (`BPF_OBJ_NAME_LEN`).
const NAME: usize = 16;

/// The union that the kernel reads, as long as the longest part that is used here.
type Attributes = [u64; 16];

fn call(command: libc::c_long, attributes: &Attributes) -> io::Result<libc::c_long> {
    // SAFETY: the attributes are larger than what the kernel reads of them, and live through the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of::<Attributes>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The same, of a command that writes into what it is handed.
fn call_writing(command: libc::c_long, attributes: &mut Attributes) -> io::Result<libc::c_long> {
    // SAFETY: as above.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of::<Attributes>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn descriptor(command: libc::c_long, attributes: &Attributes) -> io::Result<OwnedFd> {
    let number = call(command, attributes)?;
    let number = i32::try_from(number).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made it, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn number(fd: BorrowedFd<'_>) -> u64 {
    u64::from(fd.as_raw_fd().unsigned_abs())
}

/// Two 32-bit fields that lie beside each other, the first at the lower address.
fn pair(first: u32, second: u32) -> u64 {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&first.to_ne_bytes());
    bytes[4..].copy_from_slice(&second.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

fn low(word: u64) -> u32 {
    let bytes = word.to_ne_bytes();
    u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// Makes a map.
///
/// # Errors
/// As the kernel says: mostly rights, or memory.
pub(super) fn create(
    (kind, name): (Kind, &str),
    (key, value): (usize, usize),
    (entries, flags): (u32, u32),
) -> io::Result<OwnedFd> {
    let size = |bytes: usize| u32::try_from(bytes).expect("a key or value is a few bytes");
    let mut attributes = Attributes::default();
    attributes[0] = pair(kind as u32, size(key));
    attributes[1] = pair(size(value), entries);
    attributes[2] = pair(flags, 0);
    let mut named = [0; NAME];
    named[..name.len()].copy_from_slice(name.as_bytes());
    // map_name begins at byte 28.
    let word = |i: usize| u32::from_ne_bytes([named[i], named[i + 1], named[i + 2], named[i + 3]]);
    attributes[3] = pair(0, word(0));
    attributes[4] = pair(word(4), word(8));
    attributes[5] = pair(word(12), 0);
    descriptor(MAP_CREATE, &attributes)
}

/// Puts or replaces an element.
///
/// # Errors
/// As the kernel says: `E2BIG` for a full map.
pub(super) fn update(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<()> {
    let mut attributes = Attributes::default();
    attributes[0] = number(map);
    attributes[1] = key.as_ptr().addr() as u64;
    attributes[2] = value.as_ptr().addr() as u64;
    call(MAP_UPDATE, &attributes).map(drop)
}

/// Puts or replaces many elements, by one call where the kernel has it (5.6).
///
/// # Errors
/// As [`update`]; some may have been put.
pub(super) fn update_all<const K: usize, const V: usize>(
    map: BorrowedFd<'_>,
    keys: &[[u8; K]],
    values: &[[u8; V]],
) -> io::Result<()> {
    let count = u32::try_from(keys.len().min(values.len())).map_err(io::Error::other)?;
    let mut attributes = Attributes::default();
    attributes[2] = keys.as_ptr().addr() as u64;
    attributes[3] = values.as_ptr().addr() as u64;
    attributes[4] = pair(count, map.as_raw_fd().unsigned_abs());
    if count > 0 && call(MAP_UPDATE_BATCH, &attributes).is_ok() {
        return Ok(());
    }
    keys.iter().zip(values).try_for_each(|(key, value)| update(map, key, value))
}

/// Puts maps into an array of maps, from an index on. It returns when no program reads those before any more, which is waited for once
/// (5.15), whatever their number.
///
/// # Errors
/// As [`update`].
pub(super) fn put_maps(outer: BorrowedFd<'_>, first: u32, inner: &[BorrowedFd<'_>]) -> io::Result<()> {
    let keys: Vec<_> = (first..).take(inner.len()).map(u32::to_ne_bytes).collect();
    let values: Vec<_> = inner.iter().map(|map| map.as_raw_fd().to_ne_bytes()).collect();
    update_all(outer, &keys, &values)
}

/// Removes an element; one that is not there is no error.
///
/// # Errors
/// As the kernel says.
pub(super) fn delete(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<()> {
    let mut attributes = Attributes::default();
    attributes[0] = number(map);
    attributes[1] = key.as_ptr().addr() as u64;
    match call(MAP_DELETE, &attributes) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Reads a hash whose keys and values are whole words (5.6): all pairs that are there from the beginning to the end, in one run of words.
///
/// # Errors
/// As the kernel says.
pub(super) fn read_pairs<const K: usize, const V: usize>(
    map: BorrowedFd<'_>,
) -> io::Result<Vec<([u64; K], [u64; V])>> {
    /// At a time. More than a bucket holds: the kernel gives buckets whole.
    const COUNT: u32 = 4096;
    let (mut keys, mut values) = (vec![[0_u64; K]; COUNT as usize], vec![[0_u64; V]; COUNT as usize]);
    let (mut all, mut place, mut is_first) = (Vec::new(), 0_u32, true);
    loop {
        let from = place;
        let mut attributes = Attributes::default();
        attributes[0] = if is_first { 0 } else { (&raw const from).addr() as u64 };
        attributes[1] = (&raw mut place).addr() as u64;
        attributes[2] = keys.as_mut_ptr().addr() as u64;
        attributes[3] = values.as_mut_ptr().addr() as u64;
        attributes[4] = pair(COUNT, map.as_raw_fd().unsigned_abs());
        let done = call_writing(MAP_LOOKUP_BATCH, &mut attributes);
        let is_last = match done {
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            done => done.map(|_| false)?,
        };
        let count = low(attributes[4]) as usize;
        all.extend(keys.iter().copied().zip(values.iter().copied()).take(count));
        if is_last {
            return Ok(all);
        }
        is_first = false;
    }
}

/// How much memory a map takes, as the kernel counts it.
///
/// # Errors
/// When it does not say.
pub(super) fn bytes(map: BorrowedFd<'_>) -> io::Result<u64> {
    let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_raw_fd()))?;
    let said = about.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok());
    said.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn with_path<T>(path: &Path, work: impl FnOnce(u64) -> io::Result<T>) -> io::Result<T> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    work(path.as_ptr().addr() as u64)
}

/// Gives an object a name in a BPF file system.
///
/// # Errors
/// As the kernel says: `EPERM` where the folder is in no such file system.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    with_path(path, |path| {
        let mut attributes = Attributes::default();
        attributes[0] = path;
        attributes[1] = number(object);
        call(OBJECT_PIN, &attributes).map(drop)
    })
}

/// Opens an object by its name.
///
/// # Errors
/// As the kernel says: `ENOENT` where there is none.
pub(super) fn get(path: &Path) -> io::Result<OwnedFd> {
    with_path(path, |path| {
        let mut attributes = Attributes::default();
        attributes[0] = path;
        descriptor(OBJECT_GET, &attributes)
    })
}

/// Lets a program see the sockets of a cgroup and of those below, beside the programs of others (5.7).
///
/// # Errors
/// As the kernel says.
pub(super) fn link(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>, hook: u32) -> io::Result<OwnedFd> {
    let mut attributes = Attributes::default();
    attributes[0] = pair(program.as_raw_fd().unsigned_abs(), cgroup.as_raw_fd().unsigned_abs());
    attributes[1] = pair(hook, 0);
    descriptor(LINK_CREATE, &attributes)
}

/// Puts a program in the place of a link's, without a moment with neither.
///
/// # Errors
/// As the kernel says: `ENOLINK` where the cgroup is gone.
pub(super) fn replace(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = Attributes::default();
    attributes[0] = pair(link.as_raw_fd().unsigned_abs(), program.as_raw_fd().unsigned_abs());
    call(LINK_UPDATE, &attributes).map(drop)
}

/// What the kernel says of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// Its program's id.
    pub(super) program: u32,
    /// Its cgroup's id, which is the inode of the cgroup's folder; 0 when the cgroup is gone.
    pub(super) cgroup: u64,
}

/// Asks about a link.
///
/// # Errors
/// As the kernel says.
pub(super) fn about_link(link: BorrowedFd<'_>) -> io::Result<Link> {
    // struct bpf_link_info: type, id, prog_id, padding, then of a cgroup's link its id and the hook.
    let answer = information(link)?;
    Ok(Link { program: low(answer[1]), cgroup: answer[2] })
}

fn information(object: BorrowedFd<'_>) -> io::Result<[u64; 32]> {
    let mut answer = [0_u64; 32];
    let mut attributes = Attributes::default();
    let length = u32::try_from(size_of_val(&answer)).expect("a few bytes");
    attributes[0] = pair(object.as_raw_fd().unsigned_abs(), length);
    attributes[1] = answer.as_mut_ptr().addr() as u64;
    call(INFO, &attributes)?;
    Ok(answer)
}

/// The cookie of this network namespace: the number by which programs know it (`SO_NETNS_COOKIE`, 5.14).
///
/// # Errors
/// As the kernel says.
pub(super) fn namespace_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let mut cookie = 0_u64;
    let mut length = 8;
    // SAFETY: eight bytes are there for what the kernel writes.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(cookie) }
}

/// Lets a socket's packets go to the loopback device and nowhere else.
///
/// # Errors
/// As the kernel says.
pub(super) fn keep_on_loopback(socket: BorrowedFd<'_>) -> io::Result<()> {
    const NAME: &[u8; 3] = b"lo\0";
    // SAFETY: a name with its end, of this length.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_BINDTODEVICE, NAME.as_ptr().cast(), 3)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// An array that the kernel's programs read while we write it, word by word.
#[derive(Debug)]
pub(super) struct Words {
    map: OwnedFd,
    start: *mut AtomicU64,
    count: usize,
}

// SAFETY: the memory is reached through atomics alone, and is unmapped once.
unsafe impl Send for Words {}

impl Words {
    /// Shares a map that was made with [`SHARED`], of so many words in all.
    ///
    /// # Errors
    /// When there is no memory.
    pub(super) fn share(map: OwnedFd, count: usize) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let start = unsafe { mmap(std::ptr::null_mut(), count * 8, protection, MapFlags::SHARED, &map, 0) }?;
        Ok(Self { map, start: start.cast(), count })
    }

    /// Stores a word, after all that was stored before.
    pub(super) fn store(&self, at: usize, value: u64) {
        assert!(at < self.count, "a word of the array");
        // SAFETY: it lies in the mapping, which lives as long as this value.
        unsafe { &*self.start.add(at) }.store(value, Ordering::Release);
    }

    /// Reads a word.
    pub(super) fn load(&self, at: usize) -> u64 {
        assert!(at < self.count, "a word of the array");
        // SAFETY: as above.
        unsafe { &*self.start.add(at) }.load(Ordering::Relaxed)
    }

    /// The map.
    pub(super) fn map(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: nobody has a reference into it. Nothing is to be done where that fails.
        let _ = unsafe { munmap(self.start.cast(), self.count * 8) };
    }
}
