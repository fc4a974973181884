//! The real `heddle-proxy` on a node of the lab.
//!
//! It is fed from a folder of manifests, so that no test of routing needs an API server. Invariant: once
//! [`Proxy::ready`] has returned, the node's kernel holds every object that was in the folder before the start.

use crate::lab::Node;
use crate::patience::{PATIENCE, Vain, eventually};
use crate::process::{self, Invocation, Process};
use std::fs;
use std::io;
use std::path::PathBuf;

/// Name of its tables in both families.
const TABLES: [&str; 2] = ["table ip heddle-proxy", "table ip6 heddle-proxy"];

/// What it logs once it serves sockets.
const AT_SOCKETS: &str = "Services are served at sockets";

/// Why the proxy could not be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program could not be started or stopped.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// An object could not be written or removed.
    #[error("change manifest {name} of {node}")]
    Manifest {
        /// The node.
        node: String,
        /// The file's name.
        name: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It never wrote its tables.
    #[error("{vain}; the proxy printed:\n{printed}")]
    Unready {
        /// What was awaited.
        vain: Vain,
        /// Everything that the proxy printed.
        printed: String,
    },
}

/// The manifests of a node's proxy, before and while it runs.
#[derive(Debug)]
pub struct Manifests {
    node: String,
    folder: PathBuf,
}

impl Manifests {
    /// Makes the node's folder, if it has none yet.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn of(node: &Node) -> Result<Self, Error> {
        let manifests = Self { node: node.name().to_owned(), folder: node.directory().join("manifests") };
        fs::create_dir_all(&manifests.folder).map_err(|source| manifests.failed("", source))?;
        Ok(manifests)
    }

    /// Puts a file in place in one step, as editors and ConfigMaps do.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, name: &str, text: &str) -> Result<(), Error> {
        let draft = self.folder.join(format!(".{name}.new"));
        fs::write(&draft, text)
            .and_then(|()| fs::rename(&draft, self.folder.join(name)))
            .map_err(|source| self.failed(name, source))
    }

    /// Removes a file.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        fs::remove_file(self.folder.join(name)).map_err(|source| self.failed(name, source))
    }

    /// Where they lie.
    pub fn folder(&self) -> String {
        self.folder.to_string_lossy().into_owned()
    }

    fn failed(&self, name: &str, source: io::Error) -> Error {
        Error::Manifest { node: self.node.clone(), name: name.to_owned(), source }
    }
}

/// The socket on which a node's proxy answers questions.
pub fn socket(node: &Node) -> String {
    node.directory().join("proxy/status.sock").to_string_lossy().into_owned()
}

/// What `heddle-proxy status` prints of a node's proxy, for people.
///
/// # Errors
/// The program could not be run.
pub fn status(node: &Node) -> Result<String, process::Error> {
    let arguments = ["status", "--status-socket", &socket(node)].map(str::to_owned);
    Ok(Invocation::of("heddle-proxy")?.args(&arguments).run(node.namespace())?.stdout)
}

/// Waits until that has this text.
///
/// # Errors
/// It never had.
pub fn says(node: &Node, text: &str) -> Result<(), Vain> {
    eventually(text, PATIENCE, || {
        let status = status(node).map_err(|error| error.to_string())?;
        if status.contains(text) { Ok(()) } else { Err(status) }
    })
}

/// A running proxy. Its tables stay when it is dropped, as they do when a daemon is restarted.
#[derive(Debug)]
pub struct Proxy {
    process: Process,
}

impl From<Process> for Proxy {
    fn from(process: Process) -> Self {
        Self { process }
    }
}

impl Proxy {
    /// Starts it on the node's manifests, with no cluster at all.
    ///
    /// # Errors
    /// When the program is missing or does not start.
    pub fn start(node: &Node, manifests: &Manifests) -> Result<Self, Error> {
        Self::start_with(node, &["--manifests", &manifests.folder()])
    }

    /// Starts it with another source of objects.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(node: &Node, source: &[&str]) -> Result<Self, Error> {
        let (socket, places) = (socket(node), node.socket_flags());
        let mode = if places.is_empty() { "nftables" } else { "ebpf" };
        let fixed = ["--proxy-mode", mode, "--hostname-override", node.name(), "--status-socket", &socket];
        let flags = source.iter().copied().chain(fixed).chain(places.iter().map(String::as_str));
        Ok(Self { process: node.start("heddle-proxy", flags)? })
    }

    /// Waits until the node's kernel holds our tables. Each comes complete, in one transaction.
    ///
    /// # Errors
    /// [`Error::Unready`] with everything that the proxy printed instead.
    pub fn ready(&self, node: &Node) -> Result<(), Error> {
        eventually(&format!("the tables of heddle-proxy on {}", node.name()), PATIENCE, || has_tables(node))
            .map_err(|vain| Error::Unready { vain, printed: self.process.stdout() + &self.process.stderr() })
    }

    /// Waits until it serves sockets.
    ///
    /// # Errors
    /// [`Vain`] with what it logged instead.
    pub fn serves_sockets(&self) -> Result<(), Vain> {
        self.logs(AT_SOCKETS)
    }

    /// Whether a node's kernel holds our tables, and our programs where the node is made for them.
    ///
    /// # Errors
    /// What there is instead.
    pub fn has_all(&self, node: &Node) -> Result<(), String> {
        has_tables(node)?;
        let serves = node.bpf().is_none() || self.log().contains(AT_SOCKETS);
        if serves { Ok(()) } else { Err(self.log()) }
    }

    /// The program itself.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Waits until it has logged this.
    ///
    /// # Errors
    /// [`Vain`] with what it logged instead.
    pub fn logs(&self, text: &str) -> Result<(), Vain> {
        self.process.prints(text)
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.process.stdout() + &self.process.stderr()
    }
}

/// A large table comes in portions, its hooks in the last one.
fn has_tables(node: &Node) -> Result<(), String> {
    let listed = node.nft(["list", "chains"]).map_err(|error| error.to_string())?;
    let is_whole = |table: &str| {
        let whole = listed.stdout.split_once(&format!("{table} {{\n"));
        whole.is_some_and(|(_, rest)| {
            rest.split("\n}").next().is_some_and(|own| own.contains("hook prerouting"))
        })
    };
    if TABLES.iter().all(|table| is_whole(table)) { Ok(()) } else { Err(listed.stdout + &listed.stderr) }
}
