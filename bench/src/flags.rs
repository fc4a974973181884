//! The command line.

use crate::Failure;
use crate::cni;
use crate::here;
use crate::kube_proxy;
use crate::output::Outputs;
use crate::profile::Profile;
use crate::run::plan::{self, More, Plan};
use crate::subjects::stage::Nodes;
use crate::subjects::{Handicap, Subject};
use crate::workloads::Workload;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// What somebody who reads figures should know.
const METHOD: &str = "\
Figures are CPU time of client and server, which hardly minds other work on the machine; where a workload is latency, \
the clock's time is beside it. All subjects stand together and take turns, and a ratio compares figures of one round \
only. The load's own ceiling is the subject `loopback`. Layouts of kube-proxy's rules are written by this program, not \
by kube-proxy, which itself is measured where --kube-proxy names its binary.

Examples:
  heddle-bench run --quick --check
  heddle-bench run --quick --json new.json --html new.html --against old.json
  heddle-bench run --only data-plane --subjects direct,nft,iptables-layout --services 1,1000,30000
  heddle-bench run --only data-plane --workloads udp-requests --nodes 2 --endpoints 1,1000
  heddle-bench run --kube-proxy /usr/local/bin/kube-proxy --subjects direct,nft,kube-proxy-nftables
  heddle-bench run --quick --against old.json --handicap nft=2000
  heddle-bench run --here --kubeconfig /etc/kubernetes/admin.conf --html report.html";

/// What a caller may rely on.
const CODES: &str = "\
Exit codes:
    0  done; compared with an older report, nothing is worse
    1  something is worse than in the older report, or falls short with --check
    2  it could not be measured or compared, or the command line is wrong
  125  too noisy to tell whether something is worse (git bisect run passes over it)
  130  interrupted";

/// Measures Service routing and CNI plugins in network namespaces of its own.
///
/// Needs root, heddle-proxy and heddle-cni beside it, and nft and iptables for the rulesets that heddle is compared with. Nothing
/// outside of its namespaces is touched, and nothing is left of them when it ends, however it ends. Interrupted with Ctrl-C or
/// SIGTERM, it reports what it has measured so far and exits with 130.
#[derive(Debug, Parser)]
#[command(name = "heddle-bench", version, max_term_width = 100, after_help = CODES)]
pub struct Flags {
    /// What to measure.
    #[command(subcommand)]
    pub command: Command,
    /// How much of it.
    #[command(flatten)]
    pub amount: Amount,
    /// Where the report goes.
    #[command(flatten)]
    pub outputs: Outputs,
    /// Exits with 1 when something falls short of what it must be.
    #[arg(long, global = true)]
    pub check: bool,
    /// The commit that the programs were built from, for the report.
    #[arg(long, value_name = "ID", default_value = "unknown", global = true)]
    pub commit: String,
}

/// How much is measured.
#[derive(Clone, Copy, Debug, Args)]
pub struct Amount {
    /// A few sizes and subjects, in less than five minutes; the default.
    #[arg(long, global = true, conflicts_with_all = ["full", "smallest"])]
    pub quick: bool,
    /// All sizes, in some twenty minutes or more.
    #[arg(long, global = true, conflicts_with = "smallest")]
    pub full: bool,
    /// Only enough to see that everything works; the figures mean nothing.
    #[arg(long, global = true)]
    pub smallest: bool,
    /// On the data plane so many times as many rounds, each of so small a part: what subjects differ by is told sooner on a machine with
    /// other work, which slows down neighbours alike, while the slowest of a hundred is one of fewer.
    #[arg(long, global = true, value_name = "TIMES", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub finer: u32,
}

/// What is measured.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measures Service routing: what connections cost, how a proxy follows a cluster, and what its CNI plugin takes.
    Run(Run),
    /// Measures ADD and DEL of heddle-cni, and of Debian's bridge and host-local when they are there.
    Cni(Cni),
    /// Measures nothing: shows a saved report again, in any form.
    Report {
        /// What `--json` wrote.
        file: PathBuf,
    },
    /// Measures nothing: compares two saved reports, and says by its exit code whether the new one is worse.
    #[command(after_help = CODES)]
    Compare {
        /// What `--json` wrote before.
        old: PathBuf,
        /// What it wrote now.
        new: PathBuf,
    },
}

/// A part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Section {
    /// What connections, requests, bytes and packets cost.
    DataPlane,
    /// How proxies start and follow a cluster, and what that takes.
    ControlPlane,
    /// What ADD and DEL of heddle-cni take.
    Plugin,
}

/// A run's parts, and of whom and how much.
#[derive(Clone, Debug, Args)]
#[command(after_help = format!("{METHOD}\n\n{CODES}"))]
pub struct Run {
    /// Parts of the run.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "data-plane,control-plane,plugin"
    )]
    pub only: Vec<Section>,
    /// Whom to measure, all in turn. Where `direct` is one of them, the others' figures have ratios to it.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub subjects: Vec<Subject>,
    /// The binary of a kube-proxy to measure too, in each mode that this kernel has, in place of the layouts that stand for it.
    #[arg(long, value_name = "PATH")]
    pub kube_proxy: Option<PathBuf>,
    /// Measures the cluster that this machine or pod is in, in place of all that: connections to its Services, whoever serves them, and to
    /// their endpoints directly, from where it is started. Changes nothing.
    #[arg(long, conflicts_with_all = ["only", "subjects", "kube_proxy", "workloads", "services", "endpoints", "nodes", "handicap", "rounds_at_most"])]
    pub here: bool,
    /// How `--here` reaches the API server; without it by the credentials of the pod that it runs in.
    #[arg(long, value_name = "FILE", requires = "here")]
    pub kubeconfig: Option<PathBuf>,
    /// Services that `--here` asks at most.
    #[arg(long, value_name = "N", requires = "here", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub most: u32,
    /// What to ask of each of them.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub workloads: Vec<Workload>,
    /// How many Services there are: each number with the first one of endpoints. All lead to one pod.
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub services: Vec<u32>,
    /// How many endpoints each Service has: each further number with the first one of Services.
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub endpoints: Vec<u32>,
    /// Rounds over all subjects; every second one goes backwards.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: Option<u32>,
    /// Rounds at most: the data plane goes on until no median of CPU time may be off by more than half of `--threshold`. With `--against` and
    /// without `--rounds` four times as many as usual, otherwise none more.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds_at_most: Option<u32>,
    /// Client and server are pods of one node or of two.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=2))]
    pub nodes: Option<u8>,
    /// Makes subjects slower on purpose, to see what `--against` finds: each packet that the client's node routes goes through so many
    /// rules more, in a table of their own, that match none. The report says so; what must hold of heddle is not asked then.
    #[arg(long, value_name = "SUBJECT=RULES", value_delimiter = ',')]
    pub handicap: Vec<Handicap>,
}

/// Which plugins.
#[derive(Clone, Debug, Default, Args)]
pub struct Cni {
    /// Another configuration list to measure beside them.
    #[arg(long, value_name = "FILE", requires = "path")]
    list: Option<PathBuf>,
    /// Where the plugins of that list are.
    #[arg(long, value_name = "FOLDER")]
    path: Vec<PathBuf>,
}

impl Amount {
    /// What the control plane does.
    pub fn profile(self) -> Profile {
        match self {
            Self { smallest: true, .. } => Profile::smallest(),
            Self { full: true, .. } => Profile::full(),
            _ => Profile::quick(),
        }
    }

    /// What the data plane does.
    pub fn plan(self) -> Plan {
        let usual = match self {
            Self { smallest: true, .. } => Plan::smallest(),
            Self { full: true, .. } => Plan::full(),
            _ => Plan::quick(),
        };
        usual.finer(self.finer)
    }

    /// What the report calls it: `quick`, or `quick, finer by 10`, which is not to be compared with that.
    pub fn name(self) -> String {
        let name = self.profile().name;
        if self.finer > 1 { format!("{name}, finer by {}", self.finer) } else { name.to_owned() }
    }
}

impl Run {
    /// What the data plane does: what the profile has, where nothing else is said.
    ///
    /// # Errors
    /// When there are not that many addresses.
    pub fn plan(&self, amount: Amount, outputs: &Outputs) -> Result<Plan, Failure> {
        let usual = amount.plan();
        let rounds = self.rounds.unwrap_or(usual.rounds);
        let or = |asked: &[u32], usual: Vec<u32>| if asked.is_empty() { usual } else { asked.to_vec() };
        let sizes = if self.services.is_empty() && self.endpoints.is_empty() {
            usual.sizes
        } else {
            let services = usual.sizes.iter().map(|size| size.services).collect();
            plan::sizes(&or(&self.services, services), &or(&self.endpoints, vec![3]))
        };
        if let Some(large) = sizes.iter().find(|size| !size.fits()) {
            return Err(format!("{large} has more endpoints than there are addresses for").into());
        }
        let subjects = self.subjects(usual.subjects)?;
        Ok(Plan {
            handicaps: self.handicaps(&subjects)?,
            subjects,
            workloads: if self.workloads.is_empty() { usual.workloads } else { self.workloads.clone() },
            sizes,
            rounds,
            more: self.more(rounds, outputs),
            effort: usual.effort,
            nodes: if self.nodes == Some(2) { Nodes::Two } else { usual.nodes },
            kube_proxy: self.kube_proxy.clone(),
        })
    }

    /// The rounds that may follow.
    fn more(&self, rounds: u32, outputs: &Outputs) -> More {
        let usual = if outputs.against.is_some() && self.rounds.is_none() { 4 * rounds } else { rounds };
        let most = self.rounds_at_most.unwrap_or(usual);
        // The other report is off, too: this leaves it a little more than half.
        More { rounds: most.saturating_sub(rounds), until: outputs.threshold / 100.0 / 2.0 }
    }

    /// Those of subjects that are measured: what counts for nobody is a mistake.
    fn handicaps(&self, subjects: &[Subject]) -> Result<Vec<Handicap>, Failure> {
        let is_measured =
            |it: &Handicap| self.only.contains(&Section::DataPlane) && subjects.contains(&it.subject);
        match self.handicap.iter().find(|it| !is_measured(it)) {
            None => Ok(self.handicap.clone()),
            Some(it) => {
                let name = it.subject.name();
                Err(format!("a handicap of {name}, which is no subject of the data plane here").into())
            }
        }
    }

    /// What is measured of the cluster as it is, if that is asked for.
    pub fn here(&self, amount: Amount) -> Option<here::Settings> {
        let usual = match amount {
            Amount { smallest: true, .. } => 2,
            Amount { full: true, .. } => 100,
            _ => 25,
        };
        let most = usize::try_from(self.most).unwrap_or(usize::MAX);
        let (kubeconfig, rounds) = (self.kubeconfig.clone(), self.rounds.unwrap_or(usual));
        self.here.then_some(here::Settings { kubeconfig, most, rounds })
    }

    /// What the control plane does with these subjects and sizes.
    pub fn profile(&self, amount: Amount, plan: &Plan) -> Profile {
        let profile = amount.profile().with(&plan.subjects);
        if self.services.is_empty() && self.endpoints.is_empty() { profile } else { profile.at(&plan.sizes) }
    }

    /// Those that are asked for, or the profile's, with a real kube-proxy in place of its layouts where there is one.
    fn subjects(&self, usual: Vec<Subject>) -> Result<Vec<Subject>, Failure> {
        let Some(program) = &self.kube_proxy else {
            return match self.subjects.iter().find(|subject| subject.mode().is_some()) {
                Some(lacking) => {
                    Err(format!("{} needs the binary: --kube-proxy PATH", lacking.name()).into())
                }
                None if self.subjects.is_empty() => Ok(usual),
                None => Ok(self.subjects.clone()),
            };
        };
        if !self.subjects.is_empty() {
            kube_proxy::check_modes(program, self.subjects.iter().filter_map(|subject| subject.mode()))?;
            return Ok(self.subjects.clone());
        }
        Ok(Subject::with_real(usual, &kube_proxy::modes_of(program)?))
    }
}

impl Cni {
    /// How much of it.
    pub fn settings(&self, amount: Amount) -> cni::Settings {
        let other = self.list.clone().map(|list| (list, self.path.clone()));
        let (rounds, pods, burst) = match amount {
            Amount { smallest: true, .. } => (2, 1, 4),
            Amount { full: true, .. } => (15, 15, 100),
            _ => (5, 5, 100),
        };
        let leases = if amount.smallest { vec![1, 10] } else { vec![100, 4_000, 60_000] };
        cni::Settings { rounds, pods, burst, leases, other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn plan(arguments: &[&str]) -> Plan {
        let flags = Flags::parse_from([&["heddle-bench", "run"], arguments].concat());
        let Command::Run(run) = &flags.command else { panic!("{flags:?}") };
        run.plan(flags.amount, &flags.outputs).unwrap()
    }

    #[test]
    fn the_command_line_is_sound() {
        Flags::command().debug_assert();
    }

    #[test]
    fn what_is_not_said_is_the_profiles() {
        let plan = plan(&[
            "--smallest",
            "--subjects",
            "direct,direct+conntrack",
            "--services",
            "7",
            "--rounds",
            "3",
        ]);
        assert_eq!(plan.subjects, [Subject::Direct, Subject::Tracked]);
        assert_eq!((plan.sizes, plan.rounds, plan.more.rounds), (vec![(7, 3).into()], 3, 0));
        assert_eq!(plan.workloads, Plan::smallest().workloads);
    }

    #[test]
    fn rounds_may_follow_where_a_comparison_needs_them_or_somebody_says_so() {
        let more = |arguments: &[&str]| plan(arguments).more;
        assert_eq!(more(&["--against", "old.json", "--threshold", "8"]), More { rounds: 27, until: 0.04 });
        assert_eq!(more(&["--against", "old.json", "--rounds", "20"]).rounds, 0);
        assert_eq!(more(&["--rounds", "20", "--rounds-at-most", "50"]).rounds, 30);
        assert_eq!(more(&["--rounds", "20", "--rounds-at-most", "5"]).rounds, 0);
    }

    #[test]
    fn a_handicap_of_nobody_who_is_measured_is_a_mistake() {
        assert_eq!(plan(&["--handicap", "ebpf-tracked=7"]).handicap(Subject::DirectBesideEbpf), 7);
        for arguments in [["--subjects", "direct"], ["--only", "control-plane"]] {
            let flags =
                Flags::parse_from([&["heddle-bench", "run", "--handicap", "nft=7"], &arguments[..]].concat());
            let Command::Run(run) = &flags.command else { panic!("{flags:?}") };
            assert!(run.plan(flags.amount, &flags.outputs).is_err(), "{arguments:?}");
        }
    }
}
