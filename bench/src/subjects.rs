//! What is compared: ways from a client to a server, by a Service or not.
//!
//! | module | what it is |
//! |---|---|
//! | [`stage`] | the hosts of one subject |
//! | [`serve`] | what its node is loaded with |
//!
//! Each subject has a lab of its own, and all stand together, so that they can take turns.

pub mod serve;
pub mod stage;

pub use stage::Stage;

use clap::ValueEnum;

/// A way from a client to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Subject {
    /// The client asks the pod itself, over a node without any rule.
    Direct,
    /// The same, over a node whose one rule makes the kernel track connections.
    #[value(name = "direct+conntrack")]
    Tracked,
    /// heddle-proxy, by packets.
    Nft,
    /// heddle-proxy, at sockets.
    Ebpf,
    /// heddle-proxy at sockets, with connections between pods not tracked.
    EbpfUntracked,
    /// The client asks the pod itself, over a node where heddle-proxy serves sockets.
    DirectBesideEbpf,
    /// Rules in the layout of kube-proxy's nftables mode.
    NftablesLayout,
    /// Rules in the layout of kube-proxy's iptables mode, in nf_tables.
    IptablesLayout,
    /// Rules in the layout of kube-proxy's iptables mode, in ip_tables.
    IptablesLegacyLayout,
}

impl Subject {
    /// What it is called in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Tracked => "direct+conntrack",
            Self::Nft => "heddle nft",
            Self::Ebpf => "heddle ebpf",
            Self::EbpfUntracked => "heddle ebpf, untracked",
            Self::DirectBesideEbpf => "direct beside ebpf",
            Self::NftablesLayout => "kube-proxy nftables layout",
            Self::IptablesLayout => "kube-proxy iptables layout",
            Self::IptablesLegacyLayout => "kube-proxy iptables layout, legacy",
        }
    }

    /// Whether its node has Services.
    pub fn has_services(self) -> bool {
        !matches!(self, Self::Direct | Self::Tracked)
    }

    /// Whether the client asks the pod itself.
    pub fn is_direct(self) -> bool {
        matches!(self, Self::Direct | Self::Tracked | Self::DirectBesideEbpf)
    }

    /// Whether it is a layout that the bench writes, which takes the kernel much longer to load than heddle's.
    pub fn is_layout(self) -> bool {
        matches!(self, Self::NftablesLayout | Self::IptablesLayout | Self::IptablesLegacyLayout)
    }

    /// The subject whose hosts it is measured on.
    pub fn host(self) -> Self {
        if self == Self::DirectBesideEbpf { Self::Ebpf } else { self }
    }

    /// Whether its node serves at sockets, for which it needs a cgroup of its own.
    pub fn is_at_sockets(self) -> bool {
        matches!(self.host(), Self::Ebpf | Self::EbpfUntracked)
    }
}
