//! What a test may break while the server runs.

/// The state of all switches. The default is a server in good health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Whether connections are taken.
    pub(crate) listening: bool,
    /// Counts the closings; connections that are older than one of them end, even if it was opened again at once.
    pub(crate) closings: u64,
    /// Whether requests hang, and watches fall silent.
    pub(crate) stalled: bool,
    /// Counts the cuts; a watch ends with an error when this differs from what it was at its start.
    pub(crate) cuts: u64,
    /// Whether a watch may begin with the list (`sendInitialEvents`), as servers before 1.32 refuse.
    pub(crate) streaming_lists: bool,
}

impl Default for Faults {
    fn default() -> Self {
        Self { listening: true, closings: 0, stalled: false, cuts: 0, streaming_lists: true }
    }
}
