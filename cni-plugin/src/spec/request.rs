//! What the runtime asks for: one type for each command, with what that command needs and no more.

use super::{
    Document, Environment, Error, asked_version, check_container, check_ifname, check_version, is_identifier,
    is_true, read_name, require,
};
use crate::args::Args;
use crate::config::{Config, ipam};
use crate::delegate::Delegate;
use crate::names;
use crate::result::Outcome;
use crate::version::Version;
use serde_json::Value;
use std::path::PathBuf;

/// What is attached: the unit of all state. The same container may be attached to several networks, and by several
/// interfaces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attachment {
    /// The network's name.
    pub network: String,
    /// The container's id; a very long one as [`names::short`] makes it.
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
    /// Is a container still attached as an ADD left it?
    Check(Box<Check>),
    /// Remove what belongs to attachments that are no more.
    Gc(Gc),
    /// Would an ADD succeed?
    Status(Box<Status>),
}

/// An ADD.
#[derive(Clone, Debug)]
pub struct Add {
    /// The version of the answer.
    pub version: Version,
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
    /// What the plugins before us came to (`prevResult`).
    pub previous: Option<Outcome>,
}

/// A CHECK.
#[derive(Clone, Debug)]
pub struct Check {
    /// The ADD, as it would be asked for now.
    pub asked: Add,
    /// What all plugins of the list came to.
    pub previous: Outcome,
}

/// A DEL. It keeps nothing of the configuration but what it needs, since the rest may have changed since the ADD.
#[derive(Clone, Debug)]
pub struct Del {
    /// What is detached.
    pub attachment: Attachment,
    /// Where our leases are.
    pub leases: PathBuf,
    /// The other plugin that gives out addresses.
    pub delegate: Option<Delegate>,
}

/// A GC. As a [`Del`], it looks at nothing that it does not need.
#[derive(Clone, Debug)]
pub struct Gc {
    /// The network's name.
    pub network: String,
    /// Where our leases are.
    pub leases: PathBuf,
    /// The other plugin that gives out addresses.
    pub delegate: Option<Delegate>,
    /// The attachments that are there; none when the runtime does not say, which is not the same as an empty list.
    pub valid: Option<Vec<Attachment>>,
}

/// A STATUS.
#[derive(Clone, Debug)]
pub struct Status {
    /// The network's name.
    pub network: String,
    /// How containers would be attached.
    pub config: Config,
}

impl Request {
    /// Reads the command, then what it needs.
    ///
    /// # Errors
    /// The first thing that is wrong; variables of the environment come before the configuration.
    pub fn read(environment: &Environment, document: Result<Document, Error>) -> Result<Self, Error> {
        let command = environment.command.as_deref().unwrap_or_default();
        let document = document.map(|document| Document { path: environment.path.clone(), ..document });
        match command {
            "" => Err(Error::Missing { names: vec!["CNI_COMMAND"] }),
            // The reference library answers this one without reading stdin, so some callers send nothing.
            "VERSION" => {
                let asked = document.ok().as_ref().and_then(asked_version).map(str::to_owned);
                Ok(Self::Version { asked })
            }
            "ADD" => Add::read(environment, document).map(Box::new).map(Self::Add),
            "DEL" => Del::read(environment, document).map(Self::Del),
            "CHECK" => Check::read(environment, document).map(Box::new).map(Self::Check),
            "GC" => Gc::read(&document?).map(Self::Gc),
            "STATUS" => Status::read(environment, &document?).map(Box::new).map(Self::Status),
            other => Err(Error::Variable {
                name: "CNI_COMMAND",
                value: other.to_owned(),
                problem: "it is none of ADD, DEL, CHECK, GC, STATUS and VERSION",
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
        let config = Config::read(&document, &args, &attachment.ifname)?;
        let previous = read_previous(&document)?;
        let own_namespace = environment.namespace_override.as_deref().is_some_and(is_true);
        Ok(Self { version, attachment, namespace, own_namespace, pod: args.pod, config, previous })
    }
}

impl Check {
    fn read(environment: &Environment, document: Result<Document, Error>) -> Result<Self, Error> {
        let mut asked = Add::read(environment, document)?;
        since(Version::V0_4_0, "CHECK", asked.version)?;
        let missing = || Error::Invalid { key: "prevResult", problem: "CHECK needs it".to_owned() };
        let previous = asked.previous.take().ok_or_else(missing)?;
        Ok(Self { asked, previous })
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
        let (leases, delegate) = (ipam::read_leases(&document), ipam::read_delegate(&document));
        Ok(Self { attachment, leases, delegate })
    }
}

impl Gc {
    fn read(document: &Document) -> Result<Self, Error> {
        since(Version::V1_1_0, "GC", check_version(document)?)?;
        let network = read_name(document)?;
        let valid = read_valid(document, &network)?;
        let (leases, delegate) = (ipam::read_leases(document), ipam::read_delegate(document));
        Ok(Self { network, leases, delegate, valid })
    }
}

impl Status {
    fn read(environment: &Environment, document: &Document) -> Result<Self, Error> {
        since(Version::V1_1_0, "STATUS", check_version(document)?)?;
        let args = Args::read(environment.args.as_deref().unwrap_or_default())?;
        // Settings of an interface are looked at, though there is none.
        let config = Config::read(document, &args, "eth0")?;
        Ok(Self { network: read_name(document)?, config })
    }
}

fn since(since: Version, command: &'static str, version: Version) -> Result<(), Error> {
    if version < since { Err(Error::TooOld { version, command, since }) } else { Ok(()) }
}

fn read_previous(document: &Document) -> Result<Option<Outcome>, Error> {
    let invalid = |problem: String| Error::Invalid { key: "prevResult", problem };
    match document.keys.get("prevResult") {
        None => Ok(None),
        Some(Value::Object(previous)) if previous.is_empty() => Ok(None),
        Some(Value::Object(previous)) => Outcome::read(previous.clone()).map(Some).map_err(invalid),
        Some(other) => Err(invalid(format!("{other} is no object"))),
    }
}

/// The list under its name in the specification, else under the one that libraries wrote before.
fn read_valid(document: &Document, network: &str) -> Result<Option<Vec<Attachment>>, Error> {
    const KEY: &str = "cni.dev/valid-attachments";
    let listed = [KEY, "cni.dev/attachments"].into_iter().find_map(|key| document.keys.get(key));
    let Some(listed) = listed else { return Ok(None) };
    let attachment = |entry: &Value| {
        let text = |key: &str| entry.get(key)?.as_str().map(str::to_owned);
        let (container, ifname) = (text("containerID")?, text("ifname")?);
        let good = is_identifier(&container) && !ifname.is_empty();
        good.then(|| Attachment { network: network.to_owned(), container: names::short(&container), ifname })
    };
    let read = |list: &Vec<Value>| list.iter().map(attachment).collect::<Option<_>>();
    // A list that is half understood would take the network from containers that live.
    let problem = || format!("{listed} is no list of objects with containerID and ifname");
    let valid = listed.as_array().and_then(read);
    valid.map(Some).ok_or_else(|| Error::Invalid { key: KEY, problem: problem() })
}
