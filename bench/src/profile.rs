//! How much of the control plane is measured: the full profile, a quicker one, and one that only shows that everything works.

use crate::cluster::Size;
use crate::control::churn::Pace;
use crate::subjects::Subject;

/// More Services than a kube-proxy loads in a time that anybody waits for.
const TOO_MANY: u32 = 30_001;

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Its name, for the report.
    pub name: &'static str,
    /// Whom to start on an API server, with clusters of which size.
    pub follow: Vec<(Subject, Size)>,
    /// The clusters that heddle-proxy reads from a folder.
    pub folders: Vec<Size>,
    /// Changed endpoints, one after the other, as heddle-proxy and the kernel tell of them.
    pub changes: u32,
    /// New Services, the same.
    pub additions: u32,
    /// Pairs of changed endpoints, as a client sees them.
    pub swaps: u32,
    /// Changes at a steady pace.
    pub churn: Pace,
}

impl Profile {
    /// What the documentation shows.
    pub fn full() -> Self {
        let sizes = [(1, 3), (1_000, 3), (10_000, 3), (30_000, 4), (100_000, 3)].map(Size::from);
        let at_sockets = [(10_000, 3), (30_000, 4)].map(Size::from);
        Self {
            name: "full",
            follow: pairs(Subject::Nft, &sizes).chain(pairs(Subject::Ebpf, &at_sockets)).collect(),
            folders: [(1_000, 3), (10_000, 3), (30_000, 4)].map(Size::from).into(),
            changes: 600,
            additions: 50,
            swaps: 100,
            churn: Pace { rate: 200, seconds: 10 },
        }
    }

    /// Less than a minute.
    pub fn quick() -> Self {
        let sizes = [(1, 3), (10_000, 3)].map(Size::from);
        Self {
            name: "quick",
            follow: pairs(Subject::Nft, &sizes).chain(pairs(Subject::Ebpf, &sizes[1..])).collect(),
            folders: sizes[1..].into(),
            changes: 400,
            additions: 20,
            swaps: 25,
            churn: Pace { rate: 200, seconds: 3 },
        }
    }

    /// Some seconds; its figures mean nothing.
    pub fn smallest() -> Self {
        let sizes = [(1, 3), (20, 3)].map(Size::from);
        Self {
            name: "smallest",
            follow: pairs(Subject::Nft, &sizes).chain(pairs(Subject::Ebpf, &sizes[1..])).collect(),
            folders: sizes[1..].into(),
            changes: 5,
            additions: 2,
            swaps: 2,
            churn: Pace { rate: 100, seconds: 1 },
        }
    }

    /// The same for those of these subjects that follow a cluster; what heddle nft follows, a kube-proxy does.
    #[must_use]
    pub fn with(self, subjects: &[Subject]) -> Self {
        let sizes = |subject: Subject| {
            let like = if subject == Subject::Ebpf { Subject::Ebpf } else { Subject::Nft };
            let sizes = self.follow.iter().filter(move |(usual, _)| *usual == like).map(|(_, size)| *size);
            sizes.filter(move |size| subject.mode().is_none() || size.services < TOO_MANY)
        };
        let followers = subjects.iter().filter(|subject| subject.follows());
        let follow = followers.flat_map(|&subject| sizes(subject).map(move |size| (subject, size))).collect();
        let folders = if subjects.contains(&Subject::Nft) { self.folders.clone() } else { Vec::new() };
        Self { follow, folders, ..self }
    }

    /// The same with clusters of these sizes.
    #[must_use]
    pub fn at(self, sizes: &[Size]) -> Self {
        let mut subjects: Vec<Subject> = self.follow.iter().map(|(subject, _)| *subject).collect();
        subjects.dedup();
        let follow = subjects.into_iter().flat_map(|subject| pairs(subject, sizes)).collect();
        let folders = if self.folders.is_empty() { Vec::new() } else { sizes.to_vec() };
        Self { follow, folders, ..self }
    }
}

fn pairs(subject: Subject, sizes: &[Size]) -> impl Iterator<Item = (Subject, Size)> {
    sizes.iter().map(move |size| (subject, *size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_does_not_follow_a_cluster_is_left_out_and_a_kube_proxy_where_there_are_too_many_services() {
        let subjects = [Subject::Direct, Subject::KubeProxyIptables, Subject::Ebpf];
        let follow = Profile::full().with(&subjects).follow;
        let of = |subject| follow.iter().filter(move |(follower, _)| *follower == subject).count();
        assert_eq!((of(Subject::KubeProxyIptables), of(Subject::Ebpf), follow.len()), (4, 2, 6));
    }

    #[test]
    fn other_sizes_are_everybodys() {
        let profile = Profile::quick().with(&[Subject::Nft, Subject::Ebpf]).at(&[Size::from((7, 3))]);
        let size = Size::from((7, 3));
        assert_eq!(profile.follow, [(Subject::Nft, size), (Subject::Ebpf, size)]);
        assert_eq!(profile.folders, [size]);
    }
}
