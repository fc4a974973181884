//! Another plugin that gives out addresses: found in `CNI_PATH`, and started with our environment and our stdin.
//!
//! The one place in which a program of ours starts another one; the specification defines this as an exec (section 4).
//! Invariant: what it says is read as carefully as what a runtime says, and an address that it gave is given back to it
//! when we cannot use it.

use crate::failure::Failure;
use crate::result::Outcome;
use serde_json::{Map, Value};
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// A plugin that gives out addresses.
#[derive(Clone, Debug)]
pub struct Delegate {
    /// Its name (`ipam.type`).
    pub kind: String,
    /// Where plugins are (`CNI_PATH`).
    pub path: Option<String>,
    /// The configuration as it came.
    pub stdin: Vec<u8>,
}

impl Delegate {
    /// Asks for addresses.
    ///
    /// # Errors
    /// What the plugin says, or why it cannot be asked or understood; then nothing is held.
    pub fn add(&self) -> Result<Outcome, Failure> {
        let output = self.run("ADD")?;
        self.read(&output).map_err(|problem| {
            let failure = self.failed(107, "its result is not one", problem);
            self.give_back(failure)
        })
    }

    /// Runs DEL after a failure, which is reported whether or not that works.
    #[must_use]
    pub fn give_back(&self, failure: Failure) -> Failure {
        match self.run("DEL") {
            Ok(_) => failure,
            Err(left) => failure.and(&format!("left behind the address: {}", left.to_line())),
        }
    }

    /// Hands a command on, and gives what the plugin prints.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn run(&self, command: &str) -> Result<Vec<u8>, Failure> {
        let program = self.find()?;
        let output = self.start(program, command).map_err(|e| match e.kind() {
            ErrorKind::ExecutableFileBusy => {
                self.failed(11, "it is being replaced; try again", e.to_string())
            }
            _ => self.failed(106, "it cannot be started", e.to_string()),
        })?;
        if output.status.success() { Ok(output.stdout) } else { Err(self.said(&output)) }
    }

    fn find(&self) -> Result<PathBuf, Failure> {
        let path = self.path.as_deref().filter(|path| !path.is_empty()).ok_or_else(|| Failure {
            code: 4,
            msg: "missing environment variables: CNI_PATH".to_owned(),
            details: format!("IPAM plugin {} is looked for there", self.kind),
        })?;
        let mut places = path.split(':').filter(|place| !place.is_empty());
        let found =
            places.find_map(|place| Some(PathBuf::from(place).join(&self.kind)).filter(|p| p.is_file()));
        found.ok_or_else(|| self.failed(106, "it is in none of the folders of CNI_PATH", path.to_owned()))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "CNI defines delegation as starting a program; here is the one place"
    )]
    fn start(&self, program: PathBuf, command: &str) -> io::Result<Output> {
        let mut child = Command::new(program)
            .env("CNI_COMMAND", command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        // A plugin may end without reading its configuration; what it says then is what counts.
        let _ = child.stdin.take().map(|mut pipe| pipe.write_all(&self.stdin));
        child.wait_with_output()
    }

    fn read(&self, output: &[u8]) -> Result<Outcome, String> {
        let document: Map<String, Value> = serde_json::from_slice(output).map_err(|e| e.to_string())?;
        let outcome = Outcome::read(document)?;
        if outcome.ips.is_empty() { Err("it has no address".to_owned()) } else { Ok(outcome) }
    }

    /// The plugin's own error, if it printed one.
    fn said(&self, output: &Output) -> Failure {
        let document: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        let text = |key: &str| document.as_ref()?.get(key)?.as_str().map(str::to_owned);
        let code = document.as_ref().and_then(|d| u32::try_from(d.get("code")?.as_u64()?).ok());
        // Code 3 lets a runtime skip the DEL of an attachment that may hold an address.
        let code = code.filter(|code| *code != 0 && *code != 3).unwrap_or(107);
        let msg = text("msg").unwrap_or_else(|| format!("it ended with {}", output.status));
        self.failed(code, &msg, text("details").unwrap_or_default())
    }

    fn failed(&self, code: u32, problem: &str, details: String) -> Failure {
        Failure { code, msg: format!("IPAM plugin {}: {problem}", self.kind), details }
    }
}
