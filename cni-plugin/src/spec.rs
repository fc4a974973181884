//! What the runtime says: the environment and stdin, as a [`Request`].
//!
//! It touches nothing and knows no key of our own configuration (that is [`config`](crate::config)). Invariant: a request
//! that it gives out is complete and in order, so that everything after it can fail only on the machine's state.
//!
//! Source of the rules: CNI specification 1.1.0, and the reference library where the text is silent.

use crate::args::Args;
use crate::config::Config;
use crate::ranges;
use serde_json::{Map, Value};
use std::path::PathBuf;

/// The versions of the specification that we speak.
pub const VERSIONS: &[&str] = &["1.0.0", "1.1.0"];
/// The one of [`VERSIONS`] that answers are labelled with when the runtime did not say which it wants.
pub const LATEST: &str = "1.1.0";

/// A configuration as JSON, before its keys are looked at.
pub type Document = Map<String, Value>;

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
    /// `CNI_NETNS_OVERRIDE`, of the reference library: the plugin's own namespace is a good one.
    pub namespace_override: Option<String>,
}

/// What is attached: the unit of all state. The same container may be attached to several networks, and by several
/// interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The network's name.
    pub network: String,
    /// The container's id.
    pub container: String,
    /// The interface's name in the container.
    pub ifname: String,
}

/// What the runtime asks for.
#[derive(Clone, Debug)]
pub enum Request {
    /// Which versions we speak.
    Version {
        /// The version that the runtime labelled its question with.
        asked: Option<String>,
    },
    /// Attach a container.
    Add(Box<Add>),
    /// Detach a container.
    Del(Del),
}

/// An ADD.
#[derive(Clone, Debug)]
pub struct Add {
    /// The version of the answer; one of [`VERSIONS`].
    pub version: String,
    /// What is attached.
    pub attachment: Attachment,
    /// The container's network namespace, as the runtime wrote it.
    pub namespace: String,
    /// Our own namespace is no mistake (`CNI_NETNS_OVERRIDE`).
    pub own_namespace: bool,
    /// The pod as `namespace/name`, when the runtime says it.
    pub pod: Option<String>,
    /// How.
    pub config: Config,
}

/// A DEL. It keeps nothing of the configuration but what it needs, since the rest may have changed since the ADD.
#[derive(Clone, Debug)]
pub struct Del {
    /// What is detached.
    pub attachment: Attachment,
    /// Where the leases are.
    pub leases: PathBuf,
}

/// Reads stdin as one JSON object.
///
/// # Errors
/// When it is anything else.
pub fn decode(stdin: &[u8]) -> Result<Document, Error> {
    serde_json::from_slice(stdin).map_err(Error::Decode)
}

/// The version that a configuration asks for.
pub fn asked_version(document: &Document) -> Option<&str> {
    document.get("cniVersion")?.as_str()
}

impl Request {
    /// Reads the command, then what it needs.
    ///
    /// # Errors
    /// The first thing that is wrong; variables of the environment come before the configuration.
    pub fn read(environment: &Environment, document: Result<Document, Error>) -> Result<Self, Error> {
        let command = environment.command.as_deref().unwrap_or_default();
        match command {
            "" => Err(Error::Missing { names: vec!["CNI_COMMAND"] }),
            // The reference library answers this one without reading stdin, so some callers send nothing.
            "VERSION" => {
                let asked = document.ok().as_ref().and_then(asked_version).map(str::to_owned);
                Ok(Self::Version { asked })
            }
            "ADD" => Add::read(environment, document).map(Box::new).map(Self::Add),
            "DEL" => Del::read(environment, document).map(Self::Del),
            other => Err(Error::Variable {
                name: "CNI_COMMAND",
                value: other.to_owned(),
                problem: "not a command of this plugin, which knows ADD, DEL and VERSION",
            }),
        }
    }
}

impl Add {
    fn read(environment: &Environment, document: Result<Document, Error>) -> Result<Self, Error> {
        let present = [
            ("CNI_CONTAINERID", &environment.container),
            ("CNI_NETNS", &environment.namespace),
            ("CNI_IFNAME", &environment.ifname),
        ];
        let [container, namespace, ifname] = require(present)?;
        let (container, ifname) = (check_container(container)?, check_ifname(ifname)?);
        let args = Args::read(environment.args.as_deref().unwrap_or_default())?;
        let document = document?;
        let version = check_version(&document)?;
        let attachment = Attachment { network: read_name(&document)?, container, ifname };
        let config = Config::read(document, &args)?;
        let own_namespace = environment.namespace_override.as_deref().is_some_and(is_true);
        Ok(Self { version, attachment, namespace, own_namespace, pod: args.pod, config })
    }
}

impl Del {
    fn read(environment: &Environment, document: Result<Document, Error>) -> Result<Self, Error> {
        let present = [("CNI_CONTAINERID", &environment.container), ("CNI_IFNAME", &environment.ifname)];
        let [container, ifname] = require(present)?;
        let (container, ifname) = (check_container(container)?, check_ifname(ifname)?);
        let document = document?;
        check_version(&document)?;
        let attachment = Attachment { network: read_name(&document)?, container, ifname };
        Ok(Self { attachment, leases: Config::read_leases(&document) })
    }
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
        Ok(value)
    } else {
        Err(Error::Variable { name: "CNI_CONTAINERID", value, problem })
    }
}

fn check_ifname(value: String) -> Result<String, Error> {
    let problem = if value.len() > heddle_netlink::link::NAME_MAX {
        "it is longer than 15 bytes"
    } else if [".", ".."].contains(&&*value)
        || value.contains(['/', ':'])
        || value.contains(char::is_whitespace)
    {
        "the kernel takes no '.', '..', '/', ':' or white space"
    } else {
        return Ok(value);
    };
    Err(Error::Variable { name: "CNI_IFNAME", value, problem })
}

fn check_version(document: &Document) -> Result<String, Error> {
    let asked = asked_version(document).unwrap_or("0.1.0").to_owned();
    if VERSIONS.contains(&&*asked) { Ok(asked) } else { Err(Error::Version { asked }) }
}

fn read_name(document: &Document) -> Result<String, Error> {
    let name = document.get("name").and_then(Value::as_str).unwrap_or_default();
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
