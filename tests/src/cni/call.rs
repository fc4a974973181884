//! One plugin, found in the path and run once.

use super::Attachment;
use crate::namespace::Namespace;
use crate::patience::{PATIENCE, eventually};
use crate::process::{Error, Invocation, Output};
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};

/// Why a runtime did not get what it asked for.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Failure {
    /// A plugin said so, in the specification's words.
    #[error("{plugin}: {document}")]
    Said {
        /// The plugin's type.
        plugin: String,
        /// Its error document.
        document: Value,
    },
    /// A plugin failed without a word on stdout, or with something else there.
    #[error("netplugin failed: {plugin}: stdout {stdout:?}, stderr {stderr:?}")]
    Speechless {
        /// The plugin's type.
        plugin: String,
        /// What it printed.
        stdout: String,
        /// What it printed for people.
        stderr: String,
    },
    /// The runtime itself.
    #[error("{0}")]
    Runtime(String),
}

impl Failure {
    /// The code of a plugin that gave one.
    pub fn code(&self) -> Option<u64> {
        match self {
            Self::Said { document, .. } => document["code"].as_u64(),
            Self::Speechless { .. } | Self::Runtime(_) => None,
        }
    }

    /// The one result on stdout, or what is wrong with it.
    pub(super) fn of_stdout(
        stdin: &Value,
        stdout: &str,
        fix: impl FnOnce(Value) -> Value,
    ) -> Result<Value, Self> {
        let result: Value = serde_json::from_str(stdout)
            .map_err(|e| Self::Runtime(format!("result of {}: {e}: {stdout:?}", stdin["type"])))?;
        let result = fix(result);
        // An old library finds a version here that it does not know, after the plugin has done everything.
        if result["cniVersion"] == stdin["cniVersion"] {
            Ok(result)
        } else {
            Err(Self::Runtime(format!("result of {} is of another version: {stdout}", stdin["type"])))
        }
    }
}

/// What a plugin is called with.
pub(super) struct Call<'a> {
    pub(super) command: &'a str,
    pub(super) path: &'a [PathBuf],
    pub(super) stdin: &'a Value,
    /// None for the commands that are about a network.
    pub(super) attachment: Option<&'a Attachment>,
}

/// Calls, and gives what the plugin printed.
pub(super) fn call(node: &Namespace, call: &Call<'_>) -> Result<String, Failure> {
    let plugin = call.stdin["type"].as_str().unwrap_or_default();
    let candidates = call.path.iter().map(|folder| folder.join(plugin));
    let Some(program) = candidates.into_iter().find(|path| path.is_file()) else {
        return Err(Failure::Runtime(format!("failed to find plugin {plugin:?} in path {:?}", call.path)));
    };
    let output = run(node, call, &program).map_err(|e| Failure::Runtime(format!("{plugin}: {e}")))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let document = serde_json::from_str(&output.stdout).ok().filter(Value::is_object);
    Err(match document {
        Some(document) => Failure::Said { plugin: plugin.to_owned(), document },
        None => {
            Failure::Speechless { plugin: plugin.to_owned(), stdout: output.stdout, stderr: output.stderr }
        }
    })
}

/// Runs it, again while somebody writes the program's file.
fn run(node: &Namespace, call: &Call<'_>, program: &Path) -> Result<Output, String> {
    let tried =
        eventually("the plugin's file to be whole", PATIENCE, || match invocation(call, program).run(node) {
            Err(Error::Start { source, .. }) if source.kind() == io::ErrorKind::ExecutableFileBusy => {
                Err(source.to_string())
            }
            other => Ok(other),
        });
    tried.map_err(|vain| vain.to_string())?.map_err(|e| format!("{e}: {:?}", std::error::Error::source(&e)))
}

fn invocation(call: &Call<'_>, program: &Path) -> Invocation {
    let path: Vec<_> = call.path.iter().map(|folder| folder.display().to_string()).collect();
    let invocation = Invocation::foreign(program)
        .env("CNI_COMMAND", call.command)
        .env("CNI_PATH", path.join(":"))
        .input(call.stdin.to_string());
    let Some(attachment) = call.attachment else { return invocation };
    invocation
        .env("CNI_CONTAINERID", &attachment.container)
        .env("CNI_NETNS", &attachment.namespace)
        .env("CNI_IFNAME", &attachment.ifname)
        .env("CNI_ARGS", attachment.arguments())
}
