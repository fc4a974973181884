//! The flags of what the plugin is supplied with → [`Settings`]; nothing started.

use clap::{ArgAction, Args};
use heddle_netlink::nft::TableFamily;
use heddle_proxy::config::GoDuration;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What our configuration is called. Runtimes take the first by name.
pub const LIST: &str = "10-heddle.conflist";
/// What the plugin's file is called beside our own.
const PROGRAM: &str = "heddle-cni";
/// Below /run, which a reboot empties.
const HEARTBEAT: &str = "/run/heddle/node-alive";

/// What `--help` shows below a heading of its own.
#[derive(Clone, Debug, Default, Args)]
#[group(id = "supply")]
#[command(next_help_heading = "Options of the plugin's supply")]
pub struct Flags {
    /// Put the plugin heddle-cni, also as loopback, into this folder, where runtimes look for plugins (mostly
    /// /opt/cni/bin), and keep it there.
    #[arg(long, value_name = "DIR")]
    cni_bin_dir: Option<PathBuf>,
    /// The plugin's file; without it, heddle-cni beside heddle-node's own.
    #[arg(long, value_name = "FILE", requires = "cni_bin_dir")]
    cni_program: Option<PathBuf>,
    /// Put the plugin's configuration 10-heddle.conflist into this folder, where runtimes look for it (mostly
    /// /etc/cni/net.d), once pods have a network, and keep it there.
    #[arg(long, value_name = "DIR")]
    cni_conf_dir: Option<PathBuf>,
    /// The configuration, in which the node's ranges and the largest packet are filled in where they are missing.
    #[arg(long, value_name = "FILE", requires = "cni_conf_dir")]
    cni_conf_template: Option<PathBuf>,
    /// Set other configurations in that folder aside, since a runtime takes the first by name.
    #[arg(long, value_name = "BOOL", default_value_t = false, action = ArgAction::Set)]
    cni_exclusive: bool,
    /// A file that is touched as long as pods have a network; the plugin's STATUS asks for it, by the same path on the node.
    /// [default with --cni-conf-dir: /run/heddle/node-alive]
    #[arg(long, value_name = "FILE")]
    cni_heartbeat: Option<PathBuf>,
    /// How often leases and host ports are looked for that pods left which are gone; what is dead at two looks is given
    /// back. Never with 0s. It takes --cni-conf-dir.
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    sweep_period: GoDuration,
}

/// What the plugin is supplied with. Nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The plugin's program.
    pub program: Option<Program>,
    /// Its configuration.
    pub list: Option<List>,
    /// The sign of life.
    pub heartbeat: Option<PathBuf>,
    /// How often what pods left is looked for.
    pub sweep: Option<Duration>,
}

/// Where the plugin's program comes from, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The file that is put in place.
    pub source: PathBuf,
    /// The folder in which runtimes look for plugins.
    pub folder: PathBuf,
}

/// The plugin's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// The folder in which runtimes look for configurations.
    pub folder: PathBuf,
    /// What it is made from; ours when there is none.
    pub template: Option<PathBuf>,
    /// Whether others are set aside.
    pub exclusive: bool,
    /// The sign of life that it names.
    pub heartbeat: PathBuf,
    /// The families that the kernel has: pods get no address of another.
    pub families: Vec<TableFamily>,
}

impl Settings {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl List {
    /// Where the configuration is.
    pub fn place(&self) -> PathBuf {
        self.folder.join(LIST)
    }
}

impl Flags {
    /// What they mean, for a program of ours that lies in the folder `beside`.
    pub fn settings(self, beside: &Path, families: &[TableFamily]) -> Settings {
        let source = self.cni_program.unwrap_or_else(|| beside.join(PROGRAM));
        let heartbeat = self.cni_heartbeat.or_else(|| self.cni_conf_dir.is_some().then(|| HEARTBEAT.into()));
        let sweep = Some(self.sweep_period.as_duration()).filter(|period| !period.is_zero());
        let list = |folder| List {
            folder,
            heartbeat: heartbeat.clone().unwrap_or_default(),
            template: self.cni_conf_template,
            exclusive: self.cni_exclusive,
            families: families.to_owned(),
        };
        let list = self.cni_conf_dir.map(list);
        Settings {
            program: self.cni_bin_dir.map(|folder| Program { source, folder }),
            sweep: sweep.filter(|_| list.is_some()),
            list,
            heartbeat,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }

    fn settings(flags: &[&str]) -> Result<Settings, clap::Error> {
        let line = Line::try_parse_from([&["heddle-node"], flags].concat())?;
        Ok(line.flags.settings("/bin".as_ref(), &[TableFamily::Ip]))
    }

    #[test]
    fn nothing_is_supplied_without_folders() {
        assert_eq!(settings(&[]).unwrap(), Settings::default());
        assert!(settings(&["--cni-program", "/x"]).is_err(), "there is no place for it");
        assert!(settings(&["--cni-conf-template", "/x"]).is_err());
    }

    #[test]
    fn the_program_is_the_one_beside_ours_or_the_one_that_is_named() {
        let source = |flags: &[&str]| settings(flags).unwrap().program.unwrap().source;
        assert_eq!(source(&["--cni-bin-dir", "/opt/cni/bin"]), Path::new("/bin/heddle-cni"));
        assert_eq!(source(&["--cni-bin-dir", "/opt/cni/bin", "--cni-program", "/x"]), Path::new("/x"));
        let list = settings(&["--cni-conf-dir", "/etc/cni/net.d", "--cni-exclusive", "true"]).unwrap().list;
        let list = list.unwrap();
        assert!(list.exclusive && list.place() == Path::new("/etc/cni/net.d/10-heddle.conflist"));
    }

    #[test]
    fn with_a_configuration_comes_a_sign_of_life_and_the_sweep() {
        let of =
            |flags: &[&str]| settings(flags).map(|settings| (settings.heartbeat, settings.sweep)).unwrap();
        let (conf, minutes) = (["--cni-conf-dir", "/x"], Duration::from_secs(300));
        assert_eq!(of(&conf), (Some("/run/heddle/node-alive".into()), Some(minutes)));
        assert_eq!(of(&["--cni-heartbeat", "/y", "--sweep-period", "1m"]), (Some("/y".into()), None));
        assert_eq!(of(&[&conf[..], &["--sweep-period", "0s"]].concat()).1, None);
        assert!(settings(&["--sweep-period", "soon"]).is_err());
    }
}
