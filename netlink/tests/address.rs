//! Addresses on the real kernel, each test in a network namespace of its own that goes with its thread.

use heddle_netlink::address::{Address, Follower};
use heddle_netlink::link::{self, Which};
use heddle_netlink::{Batch, Error, Family, Socket};
use std::error::Error as Failure;
use std::net::IpAddr;
use std::sync::mpsc;
use std::time::Duration;

/// Far longer than the kernel takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn request(socket: &mut Socket, write: impl FnOnce(&mut Batch) -> u32) -> Result<(), Error> {
    let mut batch = Batch::new();
    write(&mut batch);
    socket.request(&mut batch)
}

fn followed() -> Result<(), Box<dyn Failure + Send + Sync>> {
    #[expect(
        unsafe_code,
        reason = "only this thread, which shares no file descriptors, leaves the namespace"
    )]
    // SAFETY: NEWNET does not unshare the file descriptor table.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }?;
    let mut socket = Socket::open(Family::Route)?;
    let lo = link::fetch(&mut socket, Which::Name("lo"))?.ok_or("there is no loopback link")?.index;
    let mut follower = Follower::open()?;
    let (seen, see) = mpsc::channel();
    std::thread::spawn(move || {
        loop {
            let addresses = follower.list().map(|all| all.iter().map(|a| a.address.ip()).collect::<Vec<_>>());
            if seen.send(addresses).is_err() || follower.wait().is_err() {
                return;
            }
        }
    });
    let awaited = |wanted: &[IpAddr]| -> Result<(), Box<dyn Failure + Send + Sync>> {
        while see.recv_timeout(PATIENCE)?? != wanted {}
        Ok(())
    };
    awaited(&[])?;
    let (v4, v6): (IpAddr, IpAddr) = ("192.0.2.1".parse()?, "2001:db8::1".parse()?);
    let address = |ip: IpAddr| Address { link: lo, address: ip.into() };
    request(&mut socket, |batch| address(v4).add(batch))?;
    awaited(&[v4])?;
    request(&mut socket, |batch| address(v6).add(batch))?;
    awaited(&[v4, v6])?;
    request(&mut socket, |batch| address(v4).delete(batch))?;
    awaited(&[v6])?;
    request(&mut socket, |batch| address(v6).delete(batch))?;
    awaited(&[])
}

#[test]
fn addresses_of_both_families_are_followed_as_they_come_and_go() {
    let ended = std::thread::spawn(followed).join();
    assert!(matches!(ended, Ok(Ok(()))), "{ended:?}");
}
