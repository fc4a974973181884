//! The configuration of a running `heddle-proxy`: its file, what follows it, and what it sets in the kernel.

use heddle_tests::lab::{Lab, Node};
use heddle_tests::namespace::Namespace;
use heddle_tests::patience::PATIENCE;
use heddle_tests::process::{Invocation, Output, program};
use heddle_tests::proxy::{Manifests, Proxy};
use rustix::process::Signal;
use rustix::thread::CapabilitySet;
use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

type Outcomes = Result<(), Box<dyn Error>>;

const HEAD: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

fn sysctl(node: &Node, name: &str) -> Result<String, Box<dyn Error>> {
    let path = format!("/proc/sys/net/netfilter/nf_conntrack_{name}");
    Ok(node.namespace().enter(|| fs::read_to_string(path))??.trim().to_owned())
}

/// Runs the proxy until it ends by itself, in a namespace of its own.
fn run(arguments: &[&str]) -> Result<Output, Box<dyn Error>> {
    Ok(Invocation::of("heddle-proxy")?
        .args(["--status-socket="])
        .args(arguments)
        .run(&Namespace::new("node")?)?)
}

/// kp:F5: in the node's namespace, and what is configured only.
#[test]
fn connection_tracking_is_set_as_configured() -> Outcomes {
    let lab = Lab::new(&["node-1", "node-2"])?;
    let (node, other) = (lab.node("node-1")?, lab.node("node-2")?);
    let manifests = Manifests::of(node)?;
    let folder = manifests.folder();
    let flags = [
        "--manifests",
        &folder,
        "--conntrack-tcp-timeout-established=2h",
        "--conntrack-udp-timeout=11s",
        "--conntrack-tcp-be-liberal",
    ];
    let before = sysctl(node, "udp_timeout_stream")?;
    let proxy = Proxy::start_with(node, &flags)?;
    proxy.ready(node)?;
    assert_eq!(sysctl(node, "tcp_timeout_established")?, "7200");
    assert_eq!(sysctl(node, "tcp_timeout_close_wait")?, "3600");
    assert_eq!(sysctl(node, "udp_timeout")?, "11");
    assert_eq!(sysctl(node, "tcp_be_liberal")?, "1");
    assert_eq!(sysctl(node, "udp_timeout_stream")?, before);
    assert_ne!(sysctl(other, "udp_timeout")?, "11");
    Ok(())
}

/// kp:I3
#[test]
fn init_only_sets_the_kernel_and_writes_no_rule() -> Outcomes {
    let lab = Lab::new(&["node-1"])?;
    let node = lab.node("node-1")?;
    let before = node.nft(["list", "ruleset"])?.stdout;
    let flags = ["--init-only", "--conntrack-max-per-core=0", "--conntrack-udp-timeout=12s"];
    let ended = Invocation::of("heddle-proxy")?.args(flags).run(node.namespace())?;
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(sysctl(node, "udp_timeout")?, "12");
    assert_eq!(node.nft(["list", "ruleset"])?.stdout, before);
    Ok(())
}

/// kp:I3: what only a rule can bring along is no reason to end before there is one.
#[test]
fn init_only_leaves_limits_that_the_kernel_does_not_have_yet_to_the_rules() -> Outcomes {
    let lab = Lab::new(&["node-1"])?;
    let program = program("heddle-proxy")?;
    // The folder of a kernel whose module is not loaded, seen by this process alone.
    let hidden =
        "mount -t tmpfs none /proc/sys/net/netfilter && exec \"$0\" --init-only --conntrack-udp-timeout=12s";
    let shell = Invocation::foreign("unshare").args(["--mount", "sh", "-c", hidden]).args([program]);
    let ended = shell.run(lab.node("node-1")?.namespace())?;
    assert!(ended.status.success(), "{ended:?}");
    let said = ended.stdout + &ended.stderr;
    assert_eq!(said.matches("the kernel does not have it yet").count(), 1, "{said}");
    assert!(said.contains("/proc/sys/net/netfilter/nf_conntrack_udp_timeout to 12"), "{said}");
    Ok(())
}

/// A proxy with a configuration file.
struct Configured {
    proxy: Proxy,
    path: PathBuf,
    manifests: String,
    _lab: Lab,
}

impl Configured {
    fn start() -> Result<Self, Box<dyn Error>> {
        let lab = Lab::new(&["node-1"])?;
        let node = lab.node("node-1")?;
        let manifests = Manifests::of(node)?.folder();
        let path = node.directory().join("config.conf");
        write(&path, &manifests, "")?;
        let invocation =
            node.start("heddle-proxy", ["--status-socket=", "--config", &path.to_string_lossy()])?;
        let proxy = Proxy::from(invocation);
        proxy.ready(node)?;
        Ok(Self { proxy, path, manifests, _lab: lab })
    }

    fn says(&mut self, lines: &str, logged: &str) -> Outcomes {
        write(&self.path, &self.manifests, lines)?;
        Ok(self.proxy.process().prints(logged)?)
    }
}

fn write(path: &Path, manifests: &str, lines: &str) -> Outcomes {
    Ok(fs::write(path, format!("{HEAD}heddle: {{manifests: {manifests}}}\n{lines}"))?)
}

/// kp:I5: kube-proxy ends on every change, and on none of a ConfigMap that is swapped.
#[test]
fn a_changed_file_counts_at_once_or_ends_the_process() -> Outcomes {
    let mut stage = Configured::start()?;
    stage.says(
        "oomScoreAdj: 7000\n",
        "must be within the range [-1000, 1000]; the configuration stays as it was",
    )?;
    stage.says("# a comment\nlogging: {verbosity: 4}\n", "changed how much is logged")?;
    let log = stage.proxy.log();
    stage.says(
        "logging: {verbosity: 4}\nclusterCIDR: 10.0.0.0/8\n",
        "changed: clusterCIDR; this counts at the next start",
    )?;
    assert!(!stage.proxy.process().wait(PATIENCE)?.success());
    assert_eq!(log.matches("changed").count(), 1, "{log}");
    Ok(())
}

/// kp:I4
#[test]
fn what_is_written_as_the_configuration_is_read_as_the_same() -> Outcomes {
    let folder = heddle_tests::scratch::Scratch::new()?;
    let [first, second] = ["one", "two"].map(|name| folder.path().join(name).to_string_lossy().into_owned());
    let flags = ["--cluster-cidr=10.244.0.0/16,fd00::/48", "--proxy-mode=nftables", "--v=3"];
    let ended = run(&[&["--write-config-to", &first][..], &flags].concat())?;
    assert!(ended.status.success(), "{ended:?}");
    let ended = run(&["--config", &first, "--write-config-to", &second])?;
    assert!(ended.status.success() && !ended.stderr.contains("WARN"), "{ended:?}");
    assert_eq!(fs::read_to_string(&first)?, fs::read_to_string(&second)?);
    assert!(fs::read_to_string(&first)?.contains("\nclusterCIDR: \"10.244.0.0/16,fd00::/48\"\n"));
    Ok(())
}

/// Routing does not depend on the watch of the file.
#[test]
fn a_file_that_cannot_be_watched_is_said_and_counts_all_the_same() -> Outcomes {
    let lab = Lab::new(&["node-1"])?;
    let node = lab.node("node-1")?;
    let manifests = Manifests::of(node)?.folder();
    // The kernel tells of names in bytes; only those that are text are followed.
    let path = node.directory().join(OsStr::from_bytes(b"config-\xff"));
    write(&path, &manifests, "conntrack: {udpTimeout: 13s}\n")?;
    let invocation = Invocation::of("heddle-proxy")?.args([
        OsStr::new("--status-socket="),
        OsStr::new("--config"),
        path.as_os_str(),
    ]);
    let mut proxy = Proxy::from(invocation.start(node.namespace())?);
    proxy.process().prints("changes of the configuration count at the next start only")?;
    proxy.ready(node)?;
    assert_eq!(sysctl(node, "udp_timeout")?, "13");
    proxy.process().signal(Signal::TERM)?;
    assert!(proxy.process().wait(PATIENCE)?.success());
    Ok(())
}

/// A start that goes wrong: what of it is said, in one line, and the exit code.
struct Failing {
    arguments: Vec<String>,
    without: Option<CapabilitySet>,
    code: i32,
    says: &'static str,
}

/// Configurations that are of no use by themselves.
const OF_NO_USE: [(&str, &str); 8] = [
    ("oomScoreAdj: much", "config: oomScoreAdj: invalid type: string"),
    (
        "mode: nftables\nnftables: {syncPeriod: 1s, minSyncPeriod: 2s}",
        "nftables.syncPeriod: Invalid value: \"1s\"",
    ),
    (
        "nodePortAddresses: [primary, 10.0.0.0/8]",
        "nodePortAddresses[0]: Invalid value: \"primary\": can't use both",
    ),
    (
        "detectLocalMode: BridgeInterface",
        "detectLocal.bridgeInterface: Invalid value: \"\": must not be empty",
    ),
    ("clusterCIDR: '10.0.0.0/8,10.1.0.0/16'", "clusterCIDR: Invalid value: "),
    (
        "featureGates: {NFTablesProxyMode: false}",
        "featureGates.NFTablesProxyMode: Invalid value: false: is locked to true",
    ),
    ("conntrack: [", "config: not YAML: "),
    ("logging: {format: xml}\nbindAddress: here", "bindAddress: Invalid value: \"here\""),
];

fn failing_starts(folder: &Path) -> Result<Vec<Failing>, Box<dyn Error>> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut starts = Vec::new();
    for (number, (lines, says)) in OF_NO_USE.into_iter().enumerate() {
        let path = folder.join(number.to_string()).join("config");
        fs::create_dir(folder.join(number.to_string()))?;
        fs::write(&path, format!("{HEAD}{lines}\n"))?;
        starts.push(Failing {
            arguments: vec!["--config".into(), text(&path)],
            without: None,
            code: 2,
            says,
        });
    }
    let kubeconfig = folder.join("kubeconfig");
    fs::write(&kubeconfig, "clusters: 7\n")?;
    let manifests = folder.join("manifests");
    fs::create_dir(&manifests)?;
    let mut when_running = |arguments: &[&str], without, says| {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        starts.push(Failing { arguments, without, code: 1, says });
    };
    when_running(&["--kubeconfig", "/does/not/exist"], None, "cannot use the kubeconfig /does/not/exist: ");
    when_running(&["--kubeconfig", &text(&kubeconfig)], None, "kubeconfig: ");
    when_running(
        &["--master", "ftp://192.0.2.1"],
        None,
        "\"ftp://192.0.2.1\" is not the address of an API server",
    );
    when_running(&["--manifests", "/does/not/exist"], None, "/does/not/exist: No such file or directory");
    let in_use = [
        "--manifests",
        &text(&manifests),
        "--healthz-bind-address",
        "127.0.0.1:7",
        "--bind-address-hard-fail",
    ];
    when_running(&in_use, None, "healthz on 127.0.0.1:7: Address already in use");
    let no_right = ["--manifests", &text(&manifests)];
    when_running(
        &no_right,
        Some(CapabilitySet::NET_ADMIN),
        "has the process CAP_NET_ADMIN?): open netlink socket: Operation not permitted",
    );
    Ok(starts)
}

/// Whoever looks for the error finds one line that says what to change; and the rules of before stand.
#[test]
fn what_keeps_the_proxy_from_starting_is_one_line_and_no_rule_is_touched() -> Outcomes {
    let lab = Lab::new(&["node-1"])?;
    let node = lab.node("node-1")?;
    node.nft(["add table ip heddle-proxy; add chain ip heddle-proxy of-before"])?;
    let before = node.nft(["list", "ruleset"])?.stdout;
    assert!(before.contains("of-before"), "{before}");
    let _taken = node.namespace().enter(|| TcpListener::bind(("127.0.0.1", 7)))??;
    let socket = heddle_tests::proxy::socket(node);
    for start in failing_starts(&node.directory())? {
        let mut invocation = Invocation::of("heddle-proxy")?.args(&start.arguments);
        invocation = invocation.args(["--hostname-override=node-1", "--status-socket", &socket]);
        if let Some(right) = start.without {
            invocation = invocation.without(right);
        }
        let ended = invocation.run(node.namespace())?;
        assert_eq!(ended.status.code(), Some(start.code), "{ended:?}");
        let printed = ended.stdout + &ended.stderr;
        let is_error = |line: &&str| line.starts_with("error: ") || line.contains(" ERROR ");
        let errors: Vec<&str> = printed.lines().filter(is_error).collect();
        assert_eq!(errors.len(), 1, "{:?}: {printed}", start.arguments);
        assert!(errors[0].contains(start.says), "{:?}: {printed}", start.arguments);
        let is_whole = |line: &str| [" WARN ", " INFO "].iter().any(|level| line.contains(level));
        let mut rest = printed.lines().filter(|line| *line != errors[0]);
        assert!(rest.all(is_whole), "{:?}: more than one line: {printed}", start.arguments);
        assert_eq!(node.nft(["list", "ruleset"])?.stdout, before, "{:?}", start.arguments);
    }
    Ok(())
}

#[test]
fn a_configuration_of_no_use_ends_at_the_start_in_one_line() -> Outcomes {
    for (arguments, wanted) in [
        (&["--proxy-mode", "xdp"][..], "mode: Invalid value: \"xdp\": "),
        (&["--config", "/does/not/exist"], "read the configuration file /does/not/exist: No such file"),
        (&["--metrics-bind-address", "here", "--oom-score-adj", "9999"], "oomScoreAdj: Invalid value: 9999"),
    ] {
        let ended = run(arguments)?;
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        assert!(ended.stderr.starts_with("error: ") && ended.stderr.contains(wanted), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    }
    assert!(run(&["--version"])?.stdout.starts_with("heddle-proxy "));
    assert!(run(&["stray"])?.stderr.contains("unexpected argument 'stray'"));
    Ok(())
}
