//! What the runtime says: the environment and stdin, as a [`Request`].
//!
//! It touches nothing and knows no key of our own configuration (that is [`config`](crate::config)). Invariant: a request
//! that it gives out is complete and in order, so that everything after it can fail only on the machine's state.
//!
//! Source of the rules: CNI specification 1.1.0, and the reference library where the text is silent.

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

fn is_true(text: &str) -> bool {
    text == "1" || text.eq_ignore_ascii_case("true")
}

/// What `CNI_ARGS` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// The pod as `namespace/name`.
    pub pod: Option<String>,
    /// The address that the pod wants.
    pub ip: Option<String>,
    /// The Ethernet address that the pod wants.
    pub mac: Option<String>,
}

impl Args {
    /// Reads `K=V;K=V`, in any order. A key that we do not know is refused unless `IgnoreUnknown` is set, as in the
    /// reference library.
    ///
    /// # Errors
    /// When a part is not one key and one value, or unknown.
    pub fn read(text: &str) -> Result<Self, Error> {
        let bad = |problem| Error::Variable { name: "CNI_ARGS", value: text.to_owned(), problem };
        let (mut args, mut namespace, mut name) = (Self::default(), None, None);
        let (mut unknown, mut ignore) = (false, false);
        for part in text.split(';').filter(|_| !text.is_empty()) {
            let mut halves = part.split('=');
            let (Some(key), Some(value), None) = (halves.next(), halves.next(), halves.next()) else {
                return Err(bad("each part must be one key, '=' and one value"));
            };
            let value = Some(value.to_owned()).filter(|v| !v.is_empty());
            match key {
                "IP" => args.ip = value,
                "MAC" => args.mac = value,
                "K8S_POD_NAMESPACE" => namespace = value,
                "K8S_POD_NAME" => name = value,
                "K8S_POD_INFRA_CONTAINER_ID" | "K8S_POD_UID" => {}
                "IgnoreUnknown" => ignore = value.as_deref().is_some_and(is_true),
                _ => unknown = true,
            }
        }
        if unknown && !ignore {
            return Err(bad("it has a key that this plugin does not know, and not IgnoreUnknown=1"));
        }
        args.pod = namespace.zip(name).map(|(namespace, name)| format!("{namespace}/{name}"));
        Ok(args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn environment(command: &str) -> Environment {
        let some = |text: &str| Some(text.to_owned());
        Environment {
            command: some(command),
            container: some("c1"),
            namespace: some("/var/run/netns/x"),
            ifname: some("eth0"),
            ..Environment::default()
        }
    }

    fn document(extra: Value) -> Result<Document, Error> {
        let ipam = json!({"type": "heddle", "ranges": [[{"subnet": "10.0.0.0/24"}]]});
        let mut document = json!({"cniVersion": "1.1.0", "name": "pods", "type": "heddle-cni", "ipam": ipam});
        let Value::Object(extra) = extra else { panic!("{extra} is no object") };
        document.as_object_mut().unwrap().extend(extra);
        decode(document.to_string().as_bytes())
    }

    fn add(environment: &Environment, extra: Value) -> Result<Box<Add>, String> {
        match Request::read(environment, document(extra)) {
            Ok(Request::Add(add)) => Ok(add),
            Ok(other) => panic!("{other:?} is no ADD"),
            Err(error) => Err(error.to_string()),
        }
    }

    /// cni:E2 and cni:E3.
    #[test]
    fn all_missing_variables_are_named() {
        let bare =
            |command: &str| Environment { command: Some(command.to_owned()), ..Environment::default() };
        let error = |command| Request::read(&bare(command), document(json!({}))).unwrap_err().to_string();
        assert_eq!(error("ADD"), "missing environment variables: CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME");
        assert_eq!(error("DEL"), "missing environment variables: CNI_CONTAINERID, CNI_IFNAME");
        assert_eq!(error(""), "missing environment variables: CNI_COMMAND");
        for empty in [None, Some(String::new())] {
            let del = Environment { namespace: empty, ..environment("DEL") };
            assert!(matches!(Request::read(&del, document(json!({}))), Ok(Request::Del(_))));
        }
    }

    /// cni:E1.
    #[test]
    fn an_unknown_command_is_a_bad_variable() {
        let error = Request::read(&environment("CHECK"), document(json!({}))).unwrap_err();
        assert!(matches!(error, Error::Variable { name: "CNI_COMMAND", .. }));
    }

    /// cni:E6 and cni:E7.
    #[test]
    fn identifiers_that_are_not_safe_names_are_refused() {
        let good = environment("ADD");
        for bad in ["-a", ".", "..", "a/b", "a b", "ä", "_a"] {
            let environment = Environment { container: Some(bad.to_owned()), ..environment("ADD") };
            assert!(add(&environment, json!({})).unwrap_err().contains("CNI_CONTAINERID"), "{bad}");
            assert!(add(&good, json!({"name": bad})).unwrap_err().contains("name"));
        }
        for bad in [".", "..", "a/b", "a:b", "a b", "a\tb", "sixteen-bytes-xx"] {
            let environment = Environment { ifname: Some(bad.to_owned()), ..environment("ADD") };
            assert!(add(&environment, json!({})).unwrap_err().contains("CNI_IFNAME"), "{bad}");
        }
        let longest = Environment { ifname: Some("fifteen-bytes-x".to_owned()), ..environment("ADD") };
        assert_eq!(add(&longest, json!({})).unwrap().attachment.ifname, "fifteen-bytes-x");
    }

    /// cni:E8: the order does not matter, and containerd's is random.
    #[test]
    fn arguments_are_read_in_any_order() {
        let known = Args { pod: Some("ns/pod".to_owned()), ..Args::default() };
        assert_eq!(Args::read("K8S_POD_NAME=pod;IgnoreUnknown=1;X=y;K8S_POD_NAMESPACE=ns").unwrap(), known);
        assert_eq!(
            Args::read("X=y;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=pod;IgnoreUnknown=true").unwrap(),
            known
        );
        assert_eq!(Args::read("").unwrap(), Args::default());
        for bad in ["X=y", "IP", "IP=a=b", "IP=;", "IgnoreUnknown=0;X=y"] {
            assert!(Args::read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_the_versions_that_are_listed_are_spoken() {
        for version in VERSIONS {
            assert_eq!(add(&environment("ADD"), json!({"cniVersion": version})).unwrap().version, *version);
        }
        let error = add(&environment("ADD"), json!({"cniVersion": "1.0"})).unwrap_err();
        assert_eq!(error, "cniVersion \"1.0\" is not supported");
        let absent = Request::read(&environment("DEL"), decode(b"{}")).unwrap_err();
        assert_eq!(absent.to_string(), "cniVersion \"0.1.0\" is not supported", "cni:L5");
    }

    /// cni:D3: the configuration may be another one, or broken, by the time of the DEL.
    #[test]
    fn a_del_does_not_look_at_keys_that_it_does_not_need() {
        let broken =
            json!({"ipMasq": true, "mtu": "x", "ipam": {"type": 7, "ranges": "?", "dataDir": "/run/leases"}});
        match Request::read(&environment("DEL"), document(broken)) {
            Ok(Request::Del(del)) => assert_eq!(del.leases, PathBuf::from("/run/leases")),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn keys_that_ask_for_what_is_not_there_are_refused_with_their_value() {
        for (key, asks, does_not) in [
            ("ipMasq", json!(true), json!(false)),
            ("vlan", json!(7), json!(0)),
            ("vlanTrunk", json!([{"id": 7}]), json!([])),
            ("macspoofchk", json!(true), json!(null)),
            ("enabledad", json!(true), json!(false)),
            ("prevResult", json!({"ips": []}), json!({})),
        ] {
            let error = add(&environment("ADD"), json!({key: asks})).unwrap_err();
            assert_eq!(error, format!("unsupported field: {key} is {asks}"));
            assert!(add(&environment("ADD"), json!({key: does_not})).is_ok(), "{key}");
        }
        // cni:1.6: containerd writes the keys inside with capital letters.
        let ports = json!({"runtimeConfig": {"portMappings": [{"HostPort": 80, "ContainerPort": 80}]}});
        assert!(
            add(&environment("ADD"), ports)
                .unwrap_err()
                .starts_with("unsupported field: runtimeConfig.portM")
        );
        let unknown =
            json!({"preserveDefaultVlan": false, "x": {"y": 1}, "runtimeConfig": {"cgroupPath": "/a"}});
        assert!(add(&environment("ADD"), unknown).is_ok(), "cni:O1");
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let error = |extra| add(&environment("ADD"), extra).unwrap_err();
        assert!(error(json!({"hairpinMode": true, "promiscMode": true})).starts_with("hairpinMode: "));
        assert!(error(json!({"mtu": 20})).starts_with("mtu: 20 "));
        assert!(error(json!({"bridge": "a-name-that-is-too-long"})).starts_with("bridge: "));
        assert!(error(json!({"ipam": {"type": "host-local"}})).contains("write \"heddle\""));
        assert!(error(json!({"ipam": {"type": "heddle"}})).starts_with("ipam.ranges: no range"));
        let route = |dst, gw| json!({"ipam": {"type": "heddle", "subnet": "10.0.0.0/24", "routes": [{"dst": dst, "gw": gw}]}});
        assert!(error(route("10.0.0.1", "")).contains("dst \"10.0.0.1\""));
        assert!(error(route("10.0.0.0/8", "fd00::1")).contains("two address families"));
    }

    #[test]
    fn null_is_absent() {
        let ipam = json!({"type": "heddle", "subnet": "10.0.0.0/24", "ranges": null, "routes": null, "dataDir": null});
        assert!(
            add(&environment("ADD"), json!({"ipam": ipam, "mtu": null, "dns": {"search": null}})).is_ok()
        );
    }

    #[test]
    fn host_locals_single_range_is_the_first_set() {
        let ipam = json!({"type": "heddle", "subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9", "gateway": "10.1.0.254",
            "ranges": [[{"subnet": "fd00::/64"}]]});
        let config = add(&environment("ADD"), json!({"ipam": ipam})).unwrap().config;
        let sets: Vec<_> = config.sets.iter().map(ToString::to_string).collect();
        assert_eq!(sets, ["10.1.0.9-10.1.0.254", "fd00::1-fd00::ffff:ffff:ffff:ffff"]);
    }

    #[test]
    fn wanted_addresses_come_from_the_first_place_that_has_any() {
        let mut environment = environment("ADD");
        environment.args = Some("IP=10.0.0.7;MAC=02:00:00:00:00:01".to_owned());
        let wanted = |environment: &Environment, extra| {
            let config = add(environment, extra).unwrap().config;
            (config.addresses[0].to_string(), config.mac.unwrap().to_string())
        };
        assert_eq!(wanted(&environment, json!({})), ("10.0.0.7".to_owned(), "02:00:00:00:00:01".to_owned()));
        let args = json!({"cni": {"ips": ["10.0.0.8/24"]}});
        assert_eq!(wanted(&environment, json!({"args": args})).0, "10.0.0.8");
        let runtime = json!({"Ips": ["10.0.0.9"], "mac": "02:00:00:00:00:02"});
        assert_eq!(
            wanted(&environment, json!({"args": args, "runtimeConfig": runtime})),
            ("10.0.0.9".to_owned(), "02:00:00:00:00:02".to_owned())
        );
    }
}
