//! What the runtime says: the environment and stdin, as a [`Request`].
//!
//! It touches nothing and knows no key of our own configuration (that is [`config`](crate::config)). Invariant: a request
//! that it gives out is complete and in order, so that everything after it can fail only on the machine's state.
//!
//! Source of the rules: CNI specification 1.1.0, and the reference library where the text is silent.

mod request;

pub use request::{Add, Attachment, Check, Del, Gc, Request, Status};

use crate::json::tidy;
use crate::names;
use crate::ranges;
use crate::version::Version;
use serde_json::{Map, Value};

/// A configuration, before its keys are looked at.
#[derive(Clone, Debug)]
pub struct Document {
    /// The object, its keys as we spell them.
    pub keys: Map<String, Value>,
    /// As it came, which is how an IPAM plugin must get it.
    pub stdin: Vec<u8>,
    /// Where other plugins are (`CNI_PATH`).
    pub path: Option<String>,
}

/// Why a request is none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Variables that the command needs are not set.
    #[error("missing environment variables: {}", names.join(", "))]
    Missing {
        /// Their names.
        names: Vec<&'static str>,
    },
    /// A variable cannot be used.
    #[error("environment variable {name} is {value:?}: {problem}")]
    Variable {
        /// Its name.
        name: &'static str,
        /// What it says.
        value: String,
        /// What is wrong with that.
        problem: &'static str,
    },
    /// Stdin is not one JSON object with the right types.
    #[error("decode the configuration on stdin")]
    Decode(#[source] serde_json::Error),
    /// The configuration is for another version.
    #[error("cniVersion {asked:?} is not supported")]
    Version {
        /// What it asks for; the specification reads an absent version as 0.1.0.
        asked: String,
    },
    /// The configuration is for a version that does not have the command.
    #[error("cniVersion {version} has no {command}; it came with {since}")]
    TooOld {
        /// What the configuration asks for.
        version: Version,
        /// What the runtime asks for.
        command: &'static str,
        /// The version that brought it.
        since: Version,
    },
    /// A key asks for what we do not do.
    #[error("unsupported field: {key} is {value}")]
    Unsupported {
        /// The key, with those that it is nested in.
        key: String,
        /// Its value as JSON.
        value: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// A key is missing or makes no sense.
    #[error("{key}: {problem}")]
    Invalid {
        /// The key, with those that it is nested in.
        key: &'static str,
        /// What is wrong, with the value.
        problem: String,
    },
    /// An address range makes no sense.
    #[error("ipam.ranges")]
    Ranges(#[from] ranges::Error),
}

/// The variables of the specification; `None` where they are not set.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `CNI_COMMAND`.
    pub command: Option<String>,
    /// `CNI_CONTAINERID`.
    pub container: Option<String>,
    /// `CNI_NETNS`.
    pub namespace: Option<String>,
    /// `CNI_IFNAME`.
    pub ifname: Option<String>,
    /// `CNI_ARGS`.
    pub args: Option<String>,
    /// `CNI_PATH`: where other plugins are. Only a configuration that names another IPAM plugin needs it.
    pub path: Option<String>,
    /// `CNI_NETNS_OVERRIDE`, of the reference library: the plugin's own namespace is a good one.
    pub namespace_override: Option<String>,
    /// The name by which the program was started (`argv[0]`, without its folder).
    pub program: Option<String>,
}

/// Reads stdin as one JSON object.
///
/// # Errors
/// When it is anything else.
pub fn decode(stdin: &[u8]) -> Result<Document, Error> {
    let mut keys: Map<String, Value> = serde_json::from_slice(stdin).map_err(Error::Decode)?;
    tidy(&mut keys);
    Ok(Document { keys, stdin: stdin.to_vec(), path: None })
}

/// The version that a configuration asks for.
pub fn asked_version(document: &Document) -> Option<&str> {
    document.keys.get("cniVersion")?.as_str()
}

/// All variables, or the names of those that are missing.
fn require<const N: usize>(variables: [(&'static str, &Option<String>); N]) -> Result<[String; N], Error> {
    let names: Vec<_> = variables
        .iter()
        .filter(|(_, v)| v.as_deref().unwrap_or_default().is_empty())
        .map(|(n, _)| *n)
        .collect();
    if !names.is_empty() {
        return Err(Error::Missing { names });
    }
    Ok(variables.map(|(_, value)| value.clone().unwrap_or_default()))
}

/// `^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`, so that it is also a safe name for a file.
fn is_identifier(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric();
    text.bytes().next().is_some_and(plain) && text.bytes().all(|b| plain(b) || b"_.-".contains(&b))
}

fn check_container(value: String) -> Result<String, Error> {
    let problem = "it must begin with a letter or digit and hold only those, '_', '.' and '-'";
    if is_identifier(&value) {
        Ok(names::short(&value))
    } else {
        Err(Error::Variable { name: "CNI_CONTAINERID", value, problem })
    }
}

fn check_ifname(value: String) -> Result<String, Error> {
    let problem = if value.len() > heddle_netlink::link::NAME_MAX {
        "it is longer than 15 bytes"
    } else if [".", ".."].contains(&&*value)
        || value.contains(['/', ':', '%'])
        || value.contains(char::is_whitespace)
    {
        "the kernel takes no '.', '..', '/', ':', '%' or white space"
    } else {
        return Ok(value);
    };
    Err(Error::Variable { name: "CNI_IFNAME", value, problem })
}

fn check_version(document: &Document) -> Result<Version, Error> {
    let asked = asked_version(document).unwrap_or(Version::V0_1_0.as_str());
    Version::find(asked).ok_or_else(|| Error::Version { asked: asked.to_owned() })
}

fn read_name(document: &Document) -> Result<String, Error> {
    let name = document.keys.get("name").and_then(Value::as_str).unwrap_or_default();
    if is_identifier(name) {
        return Ok(name.to_owned());
    }
    let problem =
        format!("{name:?} does not begin with a letter or digit, or holds more than those, '_', '.' and '-'");
    Err(Error::Invalid { key: "name", problem })
}

/// How booleans are written in the environment.
pub(crate) fn is_true(text: &str) -> bool {
    text == "1" || text.eq_ignore_ascii_case("true")
}

#[cfg(test)]
mod tests;
