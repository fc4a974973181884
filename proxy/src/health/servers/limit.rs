//! How many listeners the process has files for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are not listeners': connections to the servers, the API server's, netlink, manifests.
const OTHERS: u64 = 256;

/// Raises the limit of open files as far as the process may, and returns how many of them are for listeners.
///
/// The lower limit that processes start with is there for those that use `select`, which takes no larger numbers.
pub(super) fn listeners() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let files = if setrlimit(Resource::Nofile, raised).is_ok() { raised } else { limit };
    // No limit is none.
    files
        .current
        .map_or(usize::MAX, |files| usize::try_from(files.saturating_sub(OTHERS)).unwrap_or(usize::MAX))
}
