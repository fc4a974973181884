//! A node: a namespace with an uplink, a range of pod addresses, and room for its programs' files.

use crate::cgroup::Cgroup;
use crate::lab::underlay::Seat;
use crate::lab::{Error, Families, Pod, Underlay, addresses, route_between_links};
use crate::namespace::Namespace;
use crate::process::{self, Invocation, Process};
use crate::scratch::Scratch;
use crate::wire::Wire;
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A node of the lab.
#[derive(Debug)]
pub struct Node {
    namespace: Namespace,
    /// Of its pod ranges.
    number: u8,
    seat: Seat,
    pods: Families,
    scratch: Arc<Scratch>,
    /// Where programs of sockets have their names.
    bpf: Option<Scratch>,
}

impl Node {
    pub(super) fn new(name: &str, number: u8, seat: Seat, underlay: &Underlay) -> Result<Self, Error> {
        let failed = |source| Error::Directory { host: name.to_owned(), source };
        let scratch = Arc::new(Scratch::new().map_err(failed)?);
        let mut namespace = Namespace::new(name)?;
        let mut bpf = None;
        if underlay.sockets {
            bpf = Some(Scratch::for_bpf().map_err(failed)?);
            namespace = namespace.in_cgroup(Some(Arc::new(Cgroup::new().map_err(failed)?)));
        }
        Ok(Self { namespace, number, seat, pods: underlay.pods, scratch, bpf })
    }

    /// The folder in which each of its pods has its network namespace, as runtimes have `/run/netns`.
    pub fn pods_namespaces(&self) -> PathBuf {
        self.directory().join("netns")
    }

    /// What a proxy is told to serve Services at the sockets of this node and its pods; nothing where it is to serve packets.
    pub fn socket_flags(&self) -> Vec<String> {
        let (Some(cgroup), Some(bpf)) = (self.namespace.cgroup(), &self.bpf) else { return Vec::new() };
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let flags = [
            ("--cgroup-root", text(cgroup.path())),
            ("--bpf-root", text(&bpf.path())),
            ("--netns-dir", text(&self.pods_namespaces())),
        ];
        flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
    }

    /// Where programs of its sockets have their names, if it has any.
    pub fn bpf(&self) -> Option<PathBuf> {
        self.bpf.as_ref().map(Scratch::path)
    }

    pub(super) fn seat(&self) -> Seat {
        self.seat
    }

    pub(super) fn give_ranges(&mut self, number: u8) {
        self.number = number;
    }

    /// Starts anew with this network. What is left of its directory is what a disk keeps.
    pub(super) fn reboot(&mut self, namespace: Namespace) -> Result<(), Error> {
        self.namespace = namespace;
        // A new boot id frees all leases; the lab has one boot for all of its nodes.
        match fs::remove_dir_all(self.leases()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::Directory { host: self.name().to_owned(), source: error })
            }
            _ => self.forward(),
        }
    }

    /// Where the plugin keeps its leases.
    pub(super) fn leases(&self) -> PathBuf {
        self.directory().join("leases")
    }

    pub(super) fn forward(&self) -> Result<(), Error> {
        Ok(route_between_links(&self.namespace)?)
    }

    /// Its name, as in Kubernetes' Node object.
    pub fn name(&self) -> &str {
        self.namespace.name()
    }

    /// Its network.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its addresses on the fabric: IPv4, then IPv6, of the families that the underlay carries.
    pub fn addresses(&self) -> Vec<IpAddr> {
        addresses(self.seat)
    }

    /// Its object, as the API server has it once the kubelet has reported addresses and the controller manager given ranges.
    pub fn object(&self) -> Value {
        let address = |ip: &IpAddr| json!({ "type": "InternalIP", "address": ip });
        let ranges: Vec<String> = self.pod_ranges().iter().map(ToString::to_string).collect();
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": self.name() },
            "spec": { "podCIDR": ranges.first(), "podCIDRs": ranges },
            "status": { "addresses": self.addresses().iter().map(address).collect::<Vec<_>>() },
        })
    }

    /// The ranges of its pods' addresses: IPv4, then IPv6, of the families that pods have.
    pub fn pod_ranges(&self) -> Vec<IpNetwork> {
        let v4 = Ipv4Network::new(Ipv4Addr::new(10, 244, self.number, 0), 24)
            .expect("a prefix of at most 32 bits");
        let v6 = Ipv6Addr::new(0xfd00, 0x244, 0, u16::from(self.number), 0, 0, 0, 0);
        let v6 = Ipv6Network::new(v6, 64).expect("a prefix of at most 128 bits");
        self.pods.keep([v4.into(), v6.into()])
    }

    /// What the node puts in place of a source that it masquerades on the way to an address: its own address on the
    /// bridge for its own pods, on the fabric for everybody else.
    pub fn masquerade_towards(&self, to: IpAddr) -> Option<IpAddr> {
        let of_family = |ip: &IpAddr| ip.is_ipv4() == to.is_ipv4();
        match self.pod_ranges().into_iter().find(|range| range.contains(to)) {
            // The plugin gives the bridge the first address of the range.
            Some(IpNetwork::V4(range)) => range.nth(1).map(IpAddr::V4),
            Some(IpNetwork::V6(range)) => range.iter().nth(1).map(IpAddr::V6),
            None => self.addresses().into_iter().find(of_family),
        }
    }

    /// Gives the node one more address of its own, on no link to anybody.
    ///
    /// # Errors
    /// When it has the address.
    pub fn own(&self, address: IpAddr) -> Result<(), Error> {
        let failed = |source| Error::Wire { host: self.name().to_owned(), source };
        self.namespace.enter(|| Wire::open()?.address("lo", address.into()))?.map_err(failed)
    }

    /// A directory for the files of its programs, gone with the lab.
    pub fn directory(&self) -> PathBuf {
        self.scratch.path()
    }

    pub(super) fn scratch(&self) -> &Arc<Scratch> {
        &self.scratch
    }

    /// Creates a pod with the next free addresses, as a container runtime does.
    ///
    /// # Errors
    /// [`Error::Cni`] with the plugin's answer when it fails.
    pub fn pod(&self, name: &str) -> Result<Pod, Error> {
        Pod::create(self, name, &[])
    }

    /// Creates a pod with these addresses, which must lie in the node's ranges: one of each family, or one alone.
    ///
    /// # Errors
    /// As [`pod`](Self::pod).
    pub fn pod_at(&self, name: &str, addresses: &[IpAddr]) -> Result<Pod, Error> {
        Pod::create(self, name, addresses)
    }

    /// Starts one of heddle's daemons on the node.
    ///
    /// # Errors
    /// As [`Invocation::start`].
    pub fn start<'a>(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Result<Process, process::Error> {
        Invocation::of(program)?.args(arguments).start(&self.namespace)
    }

    /// Runs `nft` on the node and returns what it prints: an eye on the kernel that is not ours.
    ///
    /// # Errors
    /// As [`Invocation::run`].
    pub fn nft<'a>(
        &self,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Result<process::Output, process::Error> {
        Invocation::foreign("nft").args(arguments).run(&self.namespace)
    }
}
