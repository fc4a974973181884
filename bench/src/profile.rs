//! How much of the control plane is measured: the full profile, a quicker one, and one that only shows that everything works.

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
    /// The clusters that it follows where it serves sockets.
    pub at_sockets: Vec<Size>,
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
            at_sockets: [(10_000, 3), (30_000, 4)].map(Size::from).into(),
        }
    }

    /// Less than a minute.
    pub fn quick() -> Self {
        Self {
            name: "quick",
            clusters: [(1, 3), (10_000, 3)].map(Size::from).into(),
            folders: [(10_000, 3)].map(Size::from).into(),
            changes: 200,
            additions: 20,
            at_sockets: [(10_000, 3)].map(Size::from).into(),
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
            at_sockets: [(20, 3)].map(Size::from).into(),
        }
    }
}
