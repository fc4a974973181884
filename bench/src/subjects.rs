//! What is compared: ways from a client to a server, by a Service or not.
//!
//! | module | what it is |
//! |---|---|
//! | [`stage`] | the hosts of one subject |
//! | [`serve`] | what its node is loaded with |
//! | [`handicap`] | what makes it slower on purpose |
//!
//! Each subject has a lab of its own, and all stand together, so that they can take turns.

pub mod handicap;
pub mod serve;
pub mod stage;

pub use handicap::Handicap;
pub use stage::Stage;

use crate::kube_proxy::Mode;
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
    /// heddle-proxy, at sockets: connections between pods are not tracked, since nobody else has rules there.
    Ebpf,
    /// The same with connections between pods tracked, as beside network policies.
    EbpfTracked,
    /// The client asks the pod itself, over a node where heddle-proxy serves sockets, with connections tracked.
    DirectBesideEbpf,
    /// Rules in the layout of kube-proxy's nftables mode.
    NftablesLayout,
    /// Rules in the layout of kube-proxy's iptables mode, in nf_tables.
    IptablesLayout,
    /// Rules in the layout of kube-proxy's iptables mode, in ip_tables.
    IptablesLegacyLayout,
    /// A real kube-proxy in its iptables mode; needs `--kube-proxy`.
    KubeProxyIptables,
    /// The same in its nftables mode.
    KubeProxyNftables,
    /// The same in its ipvs mode.
    KubeProxyIpvs,
}

impl Subject {
    /// What it is called in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Tracked => "direct+conntrack",
            Self::Nft => "heddle nft",
            Self::Ebpf => "heddle ebpf",
            Self::EbpfTracked => "heddle ebpf, tracked",
            Self::DirectBesideEbpf => "direct beside ebpf",
            Self::NftablesLayout => "kube-proxy nftables layout",
            Self::IptablesLayout => "kube-proxy iptables layout",
            Self::IptablesLegacyLayout => "kube-proxy iptables layout, legacy",
            Self::KubeProxyIptables => "kube-proxy iptables",
            Self::KubeProxyNftables => "kube-proxy nftables",
            Self::KubeProxyIpvs => "kube-proxy ipvs",
        }
    }

    /// Whether it is a proxy that follows a cluster, measured by what others of its kind do not change.
    pub fn follows(self) -> bool {
        matches!(self, Self::Nft | Self::Ebpf) || self.mode().is_some()
    }

    /// Whether its node has Services.
    pub fn has_services(self) -> bool {
        !matches!(self, Self::Direct | Self::Tracked)
    }

    /// Whether the client asks the pod itself.
    pub fn is_direct(self) -> bool {
        matches!(self, Self::Direct | Self::Tracked | Self::DirectBesideEbpf)
    }

    /// Those that need no program but heddle's and the system's.
    pub fn built_in() -> impl Iterator<Item = Self> {
        Self::value_variants().iter().copied().filter(|subject| subject.mode().is_none())
    }

    /// The mode of a kube-proxy that is not there, for which it stands: a layout that the bench writes.
    pub fn stands_for(self) -> Option<Mode> {
        match self {
            Self::NftablesLayout => Some(Mode::Nftables),
            Self::IptablesLayout | Self::IptablesLegacyLayout => Some(Mode::Iptables),
            _ => None,
        }
    }

    /// These, with a real kube-proxy that has these modes in place of what stands for it.
    pub fn with_real(usual: Vec<Self>, modes: &[Mode]) -> Vec<Self> {
        let is_there = |mode: Option<Mode>| mode.is_some_and(|mode| modes.contains(&mode));
        let real = Self::value_variants().iter().copied().filter(|subject| is_there(subject.mode()));
        usual.into_iter().filter(|subject| !is_there(subject.stands_for())).chain(real).collect()
    }

    /// The mode of the real kube-proxy that it is, if it is one.
    pub fn mode(self) -> Option<Mode> {
        match self {
            Self::KubeProxyIptables => Some(Mode::Iptables),
            Self::KubeProxyNftables => Some(Mode::Nftables),
            Self::KubeProxyIpvs => Some(Mode::Ipvs),
            _ => None,
        }
    }

    /// The subject whose hosts it is measured on.
    pub fn host(self) -> Self {
        if self == Self::DirectBesideEbpf { Self::EbpfTracked } else { self }
    }

    /// Whether its node serves at sockets, for which it needs a cgroup of its own.
    pub fn is_at_sockets(self) -> bool {
        matches!(self.host(), Self::Ebpf | Self::EbpfTracked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_kube_proxy_takes_the_places_of_what_stands_for_its_modes() {
        let usual = || vec![Subject::Nft, Subject::NftablesLayout, Subject::IptablesLayout];
        assert_eq!(
            Subject::with_real(usual(), &[Mode::Iptables]),
            [Subject::Nft, Subject::NftablesLayout, Subject::KubeProxyIptables]
        );
        assert_eq!(
            Subject::with_real(usual(), &[Mode::Iptables, Mode::Nftables]),
            [Subject::Nft, Subject::KubeProxyIptables, Subject::KubeProxyNftables]
        );
    }
}
