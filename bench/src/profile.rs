//! How much is measured: the full profile, a quicker one, and one that only shows that everything works.

use crate::cluster::Size;

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Its name, for the report.
    pub name: &'static str,
    /// The clusters that the proxy follows from an API server.
    pub clusters: Vec<Size>,
    /// The clusters that it reads from a folder.
    pub folders: Vec<Size>,
    /// Changed endpoints, one after the other.
    pub changes: u32,
    /// New Services.
    pub additions: u32,
    /// Services in the larger ruleset that connections go through.
    pub many: u32,
    /// The same in kube-proxy's layout, which takes the kernel quadratically long to load.
    pub many_laid_out: u32,
    /// Rounds over all subjects; with none, the data plane is not measured.
    pub rounds: u32,
    /// Connections of one subject in one round.
    pub connections: u32,
    /// Bytes of one subject in one round.
    pub bulk: u64,
}

impl Profile {
    /// What the documentation shows.
    pub fn full() -> Self {
        let sizes = [(1, 3), (1_000, 3), (10_000, 3), (30_000, 4), (100_000, 3)];
        Self {
            name: "full",
            clusters: sizes.map(Size::from).into(),
            folders: [(1_000, 3), (10_000, 3), (30_000, 4)].map(Size::from).into(),
            changes: 300,
            additions: 50,
            many: 10_000,
            many_laid_out: 10_000,
            rounds: 15,
            connections: 2_000,
            bulk: 256 << 20,
        }
    }

    /// About half a minute.
    pub fn quick() -> Self {
        Self {
            name: "quick",
            clusters: [(1, 3), (10_000, 3)].map(Size::from).into(),
            folders: [(10_000, 3)].map(Size::from).into(),
            changes: 200,
            additions: 20,
            many: 10_000,
            many_laid_out: 5_000,
            rounds: 7,
            connections: 1_000,
            bulk: 64 << 20,
        }
    }

    /// Only the control plane, at the sizes whose memory has a bound.
    pub fn memory() -> Self {
        Self {
            name: "memory",
            clusters: [(1, 3), (10_000, 3), (30_000, 4)].map(Size::from).into(),
            folders: [(10_000, 3), (30_000, 4)].map(Size::from).into(),
            rounds: 0,
            ..Self::quick()
        }
    }

    /// Some seconds; its figures mean nothing.
    pub fn smallest() -> Self {
        Self {
            name: "smallest",
            clusters: [(1, 3), (20, 3)].map(Size::from).into(),
            folders: [(20, 3)].map(Size::from).into(),
            changes: 5,
            additions: 2,
            many: 20,
            many_laid_out: 20,
            rounds: 2,
            connections: 20,
            bulk: 1 << 20,
        }
    }
}
