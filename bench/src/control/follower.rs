//! A running proxy that follows a cluster: heddle-proxy, or a kube-proxy by its binary.

use crate::Failure;
use crate::control::synclog::{Sync, SyncLog};
use crate::kube_proxy;
use crate::subjects::Subject;
use heddle_tests::lab::Node;
use heddle_tests::proxy::Proxy;
use jiff::Timestamp;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The time after a change in which heddle-proxy begins to wait again.
const LULL: Duration = Duration::from_millis(2);
/// The same of kube-proxy, which lets a second pass between two syncs by default: what counts is a sync, not that pause.
const LONG_LULL: Duration = Duration::from_millis(1200);

/// A running proxy.
pub struct Follower {
    proxy: Proxy,
    program: PathBuf,
    syncs: SyncLog,
    /// The time for which it is left alone after a change.
    pub lull: Duration,
    /// When it was started, by a clock that does not jump.
    pub start: Instant,
    /// The same by the clock that its log has.
    pub started_at: Timestamp,
}

/// Where a proxy's objects come from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// The path of an API server's kubeconfig.
    Server(&'a str),
    /// A folder of manifests, which heddle-proxy alone can read.
    Folder(&'a str),
}

impl Follower {
    /// Starts it; `kube_proxy` is the binary of the one that is measured.
    ///
    /// # Errors
    /// When there is no such program.
    pub fn start(
        subject: Subject,
        node: &Node,
        source: Source<'_>,
        kube_proxy: Option<&Path>,
    ) -> Result<Self, Failure> {
        let (start, started_at) = (Instant::now(), Timestamp::now());
        let (proxy, program, lull) = match (subject.mode(), kube_proxy, source) {
            (Some(mode), Some(program), Source::Server(kubeconfig)) => {
                let process = kube_proxy::start(program, mode, node, kubeconfig)?;
                (Proxy::from(process), program, LONG_LULL)
            }
            _ => (heddle(node, source)?, Path::new("heddle-proxy"), LULL),
        };
        Ok(Self { proxy, program: program.to_owned(), syncs: SyncLog::default(), lull, start, started_at })
    }

    /// Fails with its last words when it has ended.
    ///
    /// # Errors
    /// Then.
    pub fn check(&mut self) -> Result<(), Failure> {
        kube_proxy::check(&self.program, self.proxy.process())
    }

    /// Its process.
    pub fn id(&mut self) -> u32 {
        self.proxy.process().id()
    }

    /// The syncs that it has told of so far, where it is heddle-proxy.
    pub fn syncs(&mut self) -> &[Sync] {
        let process = self.proxy.process();
        self.syncs.follow(|from| process.stderr_lines(from))
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.proxy.log()
    }
}

/// Its log tells of each sync.
fn heddle(node: &Node, source: Source<'_>) -> Result<Proxy, Failure> {
    let (flag, place) = match source {
        Source::Server(kubeconfig) => ("--kubeconfig", kubeconfig),
        Source::Folder(folder) => ("--manifests", folder),
    };
    Ok(Proxy::start_with(node, &[flag, place, "-v", "4", "--logging-format", "json"])?)
}
