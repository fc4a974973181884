//! The folder of a container runtime's configurations: which one it takes, and whose the others are. Pure.

use super::check::{Check, list};
use super::facts::Read;
use super::programs;
use heddle_cni::args::Args;
use heddle_cni::config::Config;
use heddle_cni::config::ipam::Ipam;
use heddle_cni::install::configurations::check_configuration;
use heddle_cni::install::programs::PROGRAM;
use heddle_cni::spec::decode;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What the folders hold.
#[derive(Clone, Debug)]
pub struct Cni {
    /// The folder of configurations.
    pub configurations: PathBuf,
    /// The files in it that runtimes read, in their order, with their texts.
    pub files: Read<Vec<(String, Read<String>)>>,
    /// The folder of plugins.
    pub programs: PathBuf,
    /// The files in it, and whether each may be executed.
    pub plugins: Read<BTreeMap<String, bool>>,
    /// The version of heddle-cni there, as its file says.
    pub version: Option<String>,
}

/// A network that a configuration of ours makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Where its leases are.
    pub leases: PathBuf,
    /// The file that the node's agent touches, and for how long that counts.
    pub touched: Option<(PathBuf, Duration)>,
}

/// A configuration, as far as it decides.
#[derive(Debug)]
struct Listed {
    file: String,
    /// What it is called and the types of its plugins, or why it is none.
    content: Read<(String, Vec<String>)>,
    text: String,
}

impl Listed {
    fn read((file, text): &(String, Read<String>)) -> Self {
        let content = text.as_ref().map_err(Clone::clone).and_then(|text| content(text));
        Self { file: file.clone(), content, text: text.clone().unwrap_or_default() }
    }

    fn is_ours(&self) -> bool {
        self.content.as_ref().is_ok_and(|(_, types)| types.iter().any(|kind| kind == PROGRAM))
    }

    fn types(&self) -> &[String] {
        self.content.as_ref().map_or(&[], |(_, types)| types)
    }
}

impl Cni {
    fn listed(&self) -> Vec<Listed> {
        self.files.iter().flatten().map(Listed::read).collect()
    }

    /// The networks of our configurations.
    pub fn networks(&self) -> Vec<Network> {
        self.listed().iter().filter(|listed| listed.is_ours()).flat_map(|ours| networks(&ours.text)).collect()
    }
}

fn content(text: &str) -> Read<(String, Vec<String>)> {
    let document: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let name = document["name"].as_str().unwrap_or_default().to_owned();
    let types: Vec<String> =
        plugins(&document).iter().filter_map(|plugin| Some(plugin["type"].as_str()?.to_owned())).collect();
    if types.is_empty() { Err("it names no plugin".to_owned()) } else { Ok((name, types)) }
}

fn plugins(document: &Value) -> &[Value] {
    document["plugins"].as_array().map_or(std::slice::from_ref(document), Vec::as_slice)
}

fn networks(text: &str) -> Vec<Network> {
    let document: Value = serde_json::from_str(text).unwrap_or_default();
    let name = document["name"].as_str().unwrap_or_default();
    let ours = plugins(&document).iter().filter(|plugin| plugin["type"] == PROGRAM);
    let network = |plugin: &Value| {
        let config =
            Config::read(&decode(plugin.to_string().as_bytes()).ok()?, &Args::default(), "eth0").ok()?;
        let Some(Ipam::Own(own)) = config.ipam else { return None };
        Some(Network { name: name.to_owned(), leases: own.leases, touched: config.agent })
    };
    ours.filter_map(network).collect()
}

/// Judges them.
pub(super) fn judge(cni: &Cni) -> Vec<Check> {
    let listed = cni.listed();
    let mut checks = match &cni.files {
        Ok(_) => vec![first(cni, &listed)],
        Err(why) => vec![Check::unread("cni configuration", why)],
    };
    checks.extend(others(cni, &listed));
    let ours = listed.iter().filter(|listed| listed.is_ours());
    checks.extend(programs::judge(cni, &ours.flat_map(Listed::types).map(String::as_str).collect()));
    checks
}

/// A runtime takes the first file by name, whoever wrote it; containerd takes none when that one is broken.
fn first(cni: &Cni, listed: &[Listed]) -> Check {
    const NAME: &str = "cni configuration";
    const HOW: &str = "heddle-node puts it there once it runs; by hand, `heddle-cni install`.";
    let folder = cni.configurations.display();
    let Some(first) = listed.first() else {
        return Check::failed(
            NAME,
            format!("{folder} has no configuration: the runtime is not ready and starts no pod."),
            HOW,
        );
    };
    let file = cni.configurations.join(&first.file);
    let file = file.display();
    if let Err(why) = &first.content {
        return Check::failed(
            NAME,
            format!("{file} comes first and cannot be read ({why}): the runtime starts no pod."),
            format!("Remove or repair {file}."),
        );
    }
    if first.is_ours() {
        return match check_configuration(first.text.as_bytes()) {
            Ok(()) => Check::ok(NAME, format!("the runtime takes {file}, which is ours")),
            Err(failure) => Check::failed(
                NAME,
                format!("{file} is ours and makes no sense: {}: pods are refused.", failure.msg),
                "Repair it, or let heddle-node write it.",
            ),
        };
    }
    let makers = list(first.types());
    match listed.iter().find(|listed| listed.is_ours()) {
        Some(ours) => Check::failed(
            NAME,
            format!(
                "the runtime takes {file} ({makers}) before ours, {}: pods get another network.",
                ours.file
            ),
            format!(
                "Remove {file}, or set it aside with `heddle-cni install --exclusive`; then make the pods anew."
            ),
        ),
        None => Check::warning(
            NAME,
            format!(
                "the runtime takes {file} ({makers}), and none is ours: heddle-node routes to pods that another plugin makes."
            ),
            format!("When heddle-cni is to make them: {HOW}"),
        ),
    }
}

/// What other networks of clusters call their plugins, their networks or their files.
const KNOWN: [&str; 13] = [
    "antrea",
    "aws-cni",
    "azure",
    "calico",
    "canal",
    "cilium",
    "flannel",
    "kindnet",
    "kube-router",
    "multus",
    "ovn",
    "weave",
    "romana",
];

/// While ours is first they do nothing; when it goes, they come into force.
fn others(cni: &Cni, listed: &[Listed]) -> Vec<Check> {
    const NAME: &str = "other cni configurations";
    if cni.files.is_err() {
        return vec![Check::unread(NAME, "the folder cannot be read")];
    }
    let later = listed.iter().skip(1).filter(|listed| !listed.is_ours());
    let fault = |listed: &Listed| {
        let file = cni.configurations.join(&listed.file);
        let file = file.display();
        match &listed.content {
            Err(why) => Some(Check::warning(
                NAME,
                format!("{file} cannot be read ({why}): a runtime that reads all of them is not ready."),
                format!("Remove {file}."),
            )),
            Ok((name, types)) => {
                let words = types.iter().chain([name, &listed.file]);
                let known = KNOWN.iter().find(|known| words.clone().any(|word| word.contains(**known)))?;
                Some(Check::warning(
                    NAME,
                    format!(
                        "{file} is left from {known}: should ours ever be missing, pods get that network."
                    ),
                    format!("Remove {file} once {known} is gone from the cluster."),
                ))
            }
        }
    };
    Check::or_ok(later.filter_map(fault).collect(), NAME, "none of another cluster's network is left")
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::facts::tests::outcome;
    use super::*;
    use crate::doctor::check::Outcome;
    use heddle_cni::LOOPBACK;

    const OURS: &str = r#"{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"heddle-cni","statusFile":"/run/x",
        "ipam":{"type":"heddle","dataDir":"/leases","ranges":[[{"subnet":"10.244.1.0/24"}]]}}]}"#;

    pub(in crate::doctor) fn healthy() -> Cni {
        Cni {
            configurations: "/etc/cni/net.d".into(),
            files: Ok(vec![("10-heddle.conflist".to_owned(), Ok(OURS.to_owned()))]),
            programs: "/opt/cni/bin".into(),
            plugins: Ok([(PROGRAM, true), (LOOPBACK, true)].map(|(name, may)| (name.to_owned(), may)).into()),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        }
    }

    pub(in crate::doctor) fn with(files: &[(&str, &str)]) -> Cni {
        let files = files.iter().map(|(file, text)| ((*file).to_owned(), Ok((*text).to_owned())));
        Cni { files: Ok(files.collect()), ..healthy() }
    }

    fn of(files: &[(&str, &str)]) -> [Outcome; 2] {
        let checks = judge(&with(files));
        ["cni configuration", "other cni configurations"].map(|name| outcome(&checks, name))
    }

    pub(in crate::doctor) const FLANNEL: &str =
        r#"{"name":"cbr0","plugins":[{"type":"flannel"},{"type":"portmap"}]}"#;

    /// cni:#24
    #[test]
    fn the_configuration_that_a_runtime_takes_first_must_be_ours() {
        use Outcome::{Failed, Ok, Warning};
        assert_eq!(of(&[("10-heddle.conflist", OURS)]), [Ok, Ok]);
        assert_eq!(of(&[("05-flannel.conflist", FLANNEL), ("10-heddle.conflist", OURS)]), [Failed, Ok]);
        assert_eq!(of(&[("10-heddle.conflist", OURS), ("20-flannel.conflist", FLANNEL)]), [Ok, Warning]);
        assert_eq!(of(&[("10-flannel.conflist", FLANNEL)]), [Warning, Ok]);
        assert_eq!(of(&[("00-half.conflist", "{\"na"), ("10-heddle.conflist", OURS)]), [Failed, Ok]);
        assert_eq!(of(&[("10-heddle.conflist", OURS), ("99-half.conf", "{}")]), [Ok, Warning]);
        let podman = r#"{"name":"podman","plugins":[{"type":"bridge"}]}"#;
        assert_eq!(of(&[("10-heddle.conflist", OURS), ("87-podman.conflist", podman)]), [Ok, Ok]);
        assert_eq!(of(&[]), [Failed, Ok]);
        let senseless = r#"{"name":"pods","plugins":[{"type":"heddle-cni","mtu":"wide"}]}"#;
        assert_eq!(of(&[("10-heddle.conflist", senseless)])[0], Failed);
    }

    #[test]
    fn the_sentence_names_the_winner_and_what_makes_its_pods() {
        let checks = judge(&with(&[("05-flannel.conflist", FLANNEL), ("10-heddle.conflist", OURS)]));
        let found = &checks[0].found;
        assert_eq!(
            found,
            "the runtime takes /etc/cni/net.d/05-flannel.conflist (flannel, portmap) before ours, 10-heddle.conflist: pods \
             get another network."
        );
    }

    #[test]
    fn our_configuration_says_where_leases_are_and_which_file_the_agent_touches() {
        let networks = healthy().networks();
        let touched = Some(("/run/x".into(), networks[0].touched.as_ref().unwrap().1));
        assert_eq!(networks, [Network { name: "pods".to_owned(), leases: "/leases".into(), touched }]);
    }

    #[test]
    fn folders_that_cannot_be_read_are_judged_by_nobody() {
        let hidden = Cni {
            files: Err("no such mount".to_owned()),
            plugins: Err("no such mount".to_owned()),
            ..healthy()
        };
        assert!(judge(&hidden).iter().all(|check| check.outcome == Outcome::NotApplicable));
    }
}
