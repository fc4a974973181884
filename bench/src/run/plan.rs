//! What is measured of whom, and how much.

use crate::cluster::Size;
use crate::subjects::stage::{Nodes, Setting};
use crate::subjects::{Handicap, Subject};
use crate::workloads::{Effort, Workload};
use clap::ValueEnum;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whom.
    pub subjects: Vec<Subject>,
    /// With what.
    pub workloads: Vec<Workload>,
    /// With how many Services and endpoints.
    pub sizes: Vec<Size>,
    /// Rounds over all subjects.
    pub rounds: u32,
    /// Rounds that may follow, where what was measured is too noisy.
    pub more: More,
    /// How much of each workload in one round.
    pub effort: Effort,
    /// Between the pods of how many nodes.
    pub nodes: Nodes,
    /// The binary of the kube-proxy that is one of the subjects, or several.
    pub kube_proxy: Option<PathBuf>,
    /// Whom to make slower, on purpose.
    pub handicaps: Vec<Handicap>,
}

/// Rounds beyond those that a plan has.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct More {
    /// At most so many.
    pub rounds: u32,
    /// None, once no median of CPU time may be off by more than this share.
    pub until: f64,
}

impl Plan {
    /// Some seconds; its figures mean nothing.
    pub fn smallest() -> Self {
        Self {
            subjects: Subject::built_in().collect(),
            sizes: vec![Size::from((20, 3))],
            rounds: 2,
            effort: Effort { connections: 10, requests: 10, bytes: 1 << 20, packets: 64, calls: 100 },
            ..Self::quick()
        }
    }

    /// A minute or two.
    pub fn quick() -> Self {
        let is_quick = |subject: &Subject| *subject != Subject::IptablesLegacyLayout;
        Self {
            subjects: Subject::built_in().filter(is_quick).collect(),
            workloads: Workload::value_variants().to_vec(),
            sizes: [(1, 3), (10_000, 3)].map(Size::from).into(),
            rounds: 9,
            more: More::default(),
            effort: Effort {
                connections: 500,
                requests: 1_000,
                bytes: 32 << 20,
                packets: 3_200,
                calls: 20_000,
            },
            nodes: Nodes::One,
            kube_proxy: None,
            handicaps: Vec::new(),
        }
    }

    /// What the documentation shows.
    pub fn full() -> Self {
        Self {
            subjects: Subject::built_in().collect(),
            sizes: sizes(&[1, 100, 1_000, 10_000, 30_000], &[3, 1, 10, 100, 1_000]),
            rounds: 15,
            effort: Effort {
                connections: 1_000,
                requests: 2_000,
                bytes: 64 << 20,
                packets: 9_600,
                calls: 50_000,
            },
            ..Self::quick()
        }
    }

    /// So many times as many rounds, each of so small a part: subjects take turns within a shorter time.
    #[must_use]
    pub fn finer(self, times: u32) -> Self {
        Self { rounds: self.rounds * times, effort: self.effort.part(times), ..self }
    }

    /// The subjects that have hosts of their own, with the sizes of those that have Services.
    pub fn hosts(&self) -> impl Iterator<Item = (Subject, Option<Size>)> {
        let hosts: BTreeSet<Subject> = self.subjects.iter().map(|subject| subject.host()).collect();
        hosts.into_iter().flat_map(|subject| {
            let sized = self.sizes.iter().copied().map(Some).filter(move |_| subject.has_services());
            sized.chain((!subject.has_services()).then_some(None)).map(move |size| (subject, size))
        })
    }

    /// With what the hosts of a subject are built.
    pub fn setting(&self, subject: Subject) -> Setting<'_> {
        let Self { nodes, kube_proxy, .. } = self;
        Setting { nodes: *nodes, kube_proxy: kube_proxy.as_deref(), handicap: self.handicap(subject) }
    }

    /// How many rules make it slower: whoever is measured on the same hosts, too.
    pub fn handicap(&self, subject: Subject) -> u32 {
        let of_host = self.handicaps.iter().filter(|it| it.subject.host() == subject.host());
        of_host.map(|it| it.rules).sum()
    }

    /// The seconds that a round may take.
    pub fn round_weight(&self) -> f64 {
        let courses: usize = self.hosts().map(|(host, _)| self.measured_on(host)).sum();
        let whole = self.effort.seconds() * f64::from(u32::try_from(courses + 1).unwrap_or(u32::MAX));
        let share = [self.workloads.len(), Workload::value_variants().len()];
        let share = share.map(|count| f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
        whole * share[0] / share[1]
    }

    fn measured_on(&self, host: Subject) -> usize {
        self.subjects.iter().filter(|subject| subject.host() == host).count()
    }
}

/// Each number of Services with the first number of endpoints, and the first number of Services with each other number of endpoints.
pub fn sizes(services: &[u32], endpoints: &[u32]) -> Vec<Size> {
    let (Some(fewest), Some(usual)) = (services.first(), endpoints.first()) else { return Vec::new() };
    let by_services = services.iter().map(|services| Size::from((*services, *usual)));
    let by_endpoints = endpoints.iter().map(|endpoints| Size::from((*fewest, *endpoints)));
    let all: BTreeSet<Size> = by_services.chain(by_endpoints).collect();
    all.into_iter().collect()
}

/// The seconds that hosts may take to build, and their ruleset to load.
pub fn loading(subject: Subject, size: Option<Size>) -> f64 {
    let size = size.unwrap_or(Size { services: 0, endpoints: 0 });
    let thousands = f64::from(size.services) / 1000.0;
    0.5 + match subject {
        // The kernel looks at the whole table with each piece.
        Subject::NftablesLayout => 0.15 * thousands * thousands,
        Subject::IptablesLayout => 0.4 * thousands + 0.03 * thousands * thousands,
        Subject::IptablesLegacyLayout => 0.1 * thousands + 0.01 * thousands * thousands,
        Subject::KubeProxyNftables => 2.0 + 1.7 * thousands,
        Subject::KubeProxyIptables | Subject::KubeProxyIpvs => {
            2.0 + 0.5 * thousands + 0.03 * thousands * thousands
        }
        _ => 0.15 * thousands,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_vary_at_the_first_number_of_services_only() {
        let all: Vec<Size> = [(1, 1), (1, 3), (100, 3)].map(Size::from).into();
        assert_eq!(sizes(&[1, 100], &[3, 1]), all);
    }

    #[test]
    fn subjects_that_share_hosts_are_built_once() {
        let plan =
            Plan { subjects: vec![Subject::EbpfTracked, Subject::DirectBesideEbpf], ..Plan::smallest() };
        assert_eq!(plan.hosts().count(), 1);
    }
}
