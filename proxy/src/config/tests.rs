use super::*;
use crate::nft::settings::{Locality, NodePortAddresses};

fn config(args: &[&str]) -> Result<Config, String> {
    let args = ["heddle-proxy"].iter().chain(args).copied();
    let config = CommandLine::read(args, "Host.Example ").and_then(|line| line.config());
    config.map_err(|error| crate::causes::line(&error))
}

/// The configuration of a file with these lines, and flags.
fn with_file(lines: &str, args: &[&str]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.conf");
    let head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
    fs::write(&path, format!("{head}{lines}")).unwrap();
    let path = path.to_str().unwrap();
    config(&[&["--config", path], args].concat())
}

#[test]
fn flags_of_the_first_path_are_read() {
    let read = config(&["--manifests", "dir", "--proxy-mode", "nftables", "--hostname-override", " Node-1 "]);
    let read = read.unwrap();
    assert_eq!(read.node, "node-1");
    assert_eq!(read.source, Source::Manifests("dir".into()));
    assert_eq!((read.task, read.remarks), (Task::Run, Vec::new()));
}

/// kp:J1
#[test]
fn the_node_is_named_after_the_flag_then_the_file_then_the_host_trimmed_and_lower_cased() {
    assert_eq!(config(&[]).unwrap().node, "host.example");
    assert_eq!(config(&["--hostname-override", " A "]).unwrap().node, "a");
    assert!(config(&["--hostname-override", "  "]).unwrap_err().contains("--hostname-override"));
    let in_file = "hostnameOverride: ' FILE '\n";
    assert_eq!(with_file(in_file, &[]).unwrap().node, "file");
    assert_eq!(with_file(in_file, &["--hostname-override", "Flag"]).unwrap().node, "flag");
}

#[test]
fn the_api_server_is_the_source_without_manifests() {
    let read = config(&["--kubeconfig", "k", "--master", "https://192.0.2.1:6443"]).unwrap();
    let (kubeconfig, master) = (Some("k".into()), Some("https://192.0.2.1:6443".to_owned()));
    assert_eq!(read.source, Source::ApiServer { kubeconfig, master: master.clone() });
    assert_eq!(config(&[]).unwrap().source, Source::ApiServer { kubeconfig: None, master: None });
    let connection = "clientConnection: {kubeconfig: /k}\n";
    let read = with_file(connection, &["--master", "https://192.0.2.1:6443"]).unwrap();
    assert_eq!(read.source, Source::ApiServer { kubeconfig: Some("/k".into()), master });
    assert_eq!(with_file("heddle: {manifests: /m}\n", &[]).unwrap().source, Source::Manifests("/m".into()));
}

#[test]
fn external_ips_are_served_unless_their_gate_is_closed() {
    assert!(config(&[]).unwrap().serves_external_ips);
    assert!(!config(&["--feature-gates", "AllowServiceExternalIPs=false"]).unwrap().serves_external_ips);
    assert!(!with_file("featureGates: {AllowServiceExternalIPs: false}\n", &[]).unwrap().serves_external_ips);
}

/// kp:D1
#[test]
fn pods_are_known_in_the_way_that_is_asked_for() {
    let locality = |args: &[&str]| config(args).unwrap().settings.locality;
    assert_eq!(locality(&[]), Locality::Unknown);
    let networks = ["10.244.0.0/16", "fd00::/48"].map(|n| n.parse().unwrap()).to_vec();
    assert_eq!(locality(&["--cluster-cidr", "10.244.0.0/16,fd00::/48"]), Locality::Networks(networks));
    assert_eq!(locality(&["--detect-local-mode", "NodeCIDR"]), Locality::NodeNetworks);
    let bridge = ["--detect-local-mode", "BridgeInterface", "--pod-bridge-interface", "cni0"];
    assert_eq!(locality(&bridge), Locality::Interface("cni0".to_owned()));
    let prefix = ["--detect-local-mode", "InterfaceNamePrefix", "--pod-interface-name-prefix", "hdl"];
    assert_eq!(locality(&prefix), Locality::Interface("hdl*".to_owned()));
    assert!(config(&bridge[..2]).unwrap_err().contains("detectLocal.bridgeInterface"));
}

#[test]
fn node_port_addresses_are_networks_or_primary() {
    let addresses = |args: &[&str]| config(args).map(|c| c.settings.node_port_addresses);
    assert_eq!(addresses(&[]).unwrap(), NodePortAddresses::Primary);
    let networks =
        |texts: &[&str]| NodePortAddresses::Networks(texts.iter().map(|n| n.parse().unwrap()).collect());
    assert_eq!(addresses(&["--nodeport-addresses", "10.0.0.0/8"]).unwrap(), networks(&["10.0.0.0/8"]));
    let twice = ["--nodeport-addresses", "10.0.0.0/8,fd00::/64", "--nodeport-addresses", "192.0.2.0/24"];
    assert_eq!(addresses(&twice).unwrap(), networks(&["10.0.0.0/8", "fd00::/64", "192.0.2.0/24"]));
    let error = addresses(&["--nodeport-addresses", "10.0.0.0/8,primary"]).unwrap_err();
    assert!(error.contains("nodePortAddresses[1]: Invalid value: \"primary\""), "{error}");
}

#[test]
fn wrong_flags_are_named() {
    assert!(config(&["--frobnicate"]).unwrap_err().contains("--frobnicate"));
    assert!(config(&["--proxy-mode", "magic"]).unwrap_err().starts_with("mode: Invalid value: \"magic\""));
    assert!(config(&["--manifests", "a", "--kubeconfig", "b"]).unwrap_err().contains("cannot be used with"));
    assert!(config(&["stray"]).unwrap_err().contains("stray"));
    assert!(config(&["--conntrack-udp-timeout", "5"]).unwrap_err().contains("\"5\" is no duration"));
    assert!(config(&["--feature-gates", "A"]).unwrap_err().contains("name=true"));
}

/// Every flag of kube-proxy 1.36 on Linux, with a value that changes what is printed, and the line that it changes.
const FLAGS: &[(&str, &str)] = &[
    ("--bind-address=192.0.2.1", "bindAddress: 192.0.2.1"),
    ("--bind-address-hard-fail", "bindAddressHardFail: true"),
    ("--cluster-cidr=10.0.0.0/8", "clusterCIDR: 10.0.0.0/8"),
    ("--config-sync-period=7m", "configSyncPeriod: 7m0s"),
    ("--conntrack-max-per-core=0", "  maxPerCore: 0"),
    ("--conntrack-min=7", "  min: 7"),
    ("--conntrack-tcp-be-liberal=1", "  tcpBeLiberal: true"),
    ("--conntrack-tcp-timeout-close-wait=7s", "  tcpCloseWaitTimeout: 7s"),
    ("--conntrack-tcp-timeout-established=0", "  tcpEstablishedTimeout: 0s"),
    ("--conntrack-udp-timeout=7s", "  udpTimeout: 7s"),
    ("--conntrack-udp-timeout-stream=7s", "  udpStreamTimeout: 7s"),
    ("--detect-local-mode=NodeCIDR", "detectLocalMode: NodeCIDR"),
    ("--feature-gates=NativeHistograms=true,AllAlpha=false", "  NativeHistograms: true"),
    ("--healthz-bind-address=192.0.2.1:7", "healthzBindAddress: 192.0.2.1:7"),
    ("--healthz-port=0", "healthzBindAddress: \"\""),
    ("--hostname-override=Name", "hostnameOverride: name"),
    ("--iptables-localhost-nodeports=false", "  localhostNodePorts: false"),
    ("--iptables-masquerade-bit=7", "  masqueradeBit: 7"),
    ("--iptables-min-sync-period=7s", "  minSyncPeriod: 7s"),
    ("--iptables-sync-period=7s", "  syncPeriod: 7s"),
    ("--ipvs-exclude-cidrs=10.0.0.0/8", "  - 10.0.0.0/8"),
    ("--ipvs-scheduler=lc", "  scheduler: lc"),
    ("--ipvs-strict-arp", "  strictARP: true"),
    ("--ipvs-tcp-timeout=7s", "  tcpTimeout: 7s"),
    ("--ipvs-tcpfin-timeout=7s", "  tcpFinTimeout: 7s"),
    ("--ipvs-udp-timeout=7s", "  udpTimeout: 7s"),
    ("--kube-api-burst=7", "  burst: 7"),
    ("--kube-api-content-type=text/x", "  contentType: text/x"),
    ("--kube-api-qps=7.5", "  qps: 7.5"),
    ("--kubeconfig=/k", "  kubeconfig: /k"),
    ("--log-flush-frequency=7s", "  flushFrequency: 7s"),
    ("--log-json-info-buffer-size=7Mi", "      infoBufferSize: 7Mi"),
    ("--log-json-split-stream", "      splitStream: true"),
    ("--log-text-info-buffer-size=7Mi", "      infoBufferSize: 7Mi"),
    ("--log-text-split-stream", "      splitStream: true"),
    ("--logging-format=json", "  format: json"),
    ("--manifests=/m", "  manifests: /m"),
    ("--masquerade-all", "  masqueradeAll: true"),
    ("--metrics-bind-address=::", "metricsBindAddress: \"[::]:10249\""),
    ("--metrics-port=0", "metricsBindAddress: \"\""),
    ("--nodeport-addresses=primary", "- primary"),
    ("--oom-score-adj=-7", "oomScoreAdj: -7"),
    ("--pod-bridge-interface=cni0", "  bridgeInterface: cni0"),
    ("--pod-interface-name-prefix=hdl", "  interfaceNamePrefix: hdl"),
    ("--profiling", "enableProfiling: true"),
    ("--proxy-mode=nftables", "mode: nftables"),
    ("--show-hidden-metrics-for-version=1.35", "showHiddenMetricsForVersion: \"1.35\""),
    ("-v=7", "  verbosity: 7"),
    ("--v=7", "  verbosity: 7"),
    ("--vmodule=a=7", "  - {\"filePattern\":\"a\",\"verbosity\":7}"),
];

/// kp:I4
#[test]
fn every_flag_sets_its_field() {
    let defaults = config(&[]).unwrap().print();
    for (flag, line) in FLAGS {
        assert!(!defaults.lines().any(|printed| printed == *line), "{flag}: {line} is the default");
        let printed = config(&[flag]).unwrap().print();
        assert!(printed.lines().any(|printed| printed == *line), "{flag}:\n{printed}");
    }
    for flag in ["--boot-id-file=a", "--machine-id-file=b"] {
        assert_eq!(config(&[flag]).unwrap().print(), defaults);
    }
}

#[test]
fn flags_of_the_periods_belong_to_the_mode() {
    let file = |args: &[&str]| config(args).unwrap().file;
    let nftables = file(&["--proxy-mode=nftables", "--iptables-sync-period=7s", "--ipvs-sync-period=8s"]);
    assert_eq!(nftables.nftables.sync_period, GoDuration::seconds(7));
    assert_eq!(nftables.ipvs.sync_period, GoDuration::default());
    let ipvs = file(&["--proxy-mode=ipvs", "--iptables-sync-period=7s", "--ipvs-sync-period=8s"]);
    assert_eq!(ipvs.ipvs.sync_period, GoDuration::seconds(8));
    assert_eq!(ipvs.iptables.sync_period, GoDuration::default());
    assert!(file(&["--proxy-mode=nftables", "--masquerade-all"]).nftables.masquerade_all);
}

#[test]
fn a_flag_that_is_there_twice_counts_as_it_was_last() {
    assert_eq!(config(&["-v", "2", "--v=4"]).unwrap().file.logging.verbosity, 4);
    assert!(!config(&["--masquerade-all", "--masquerade-all=false"]).unwrap().settings.masquerade_all);
}

#[test]
fn beside_a_file_only_its_own_flags_count_and_the_others_are_named() {
    let lines = "mode: nftables\nclusterCIDR: 10.0.0.0/8\nlogging: {verbosity: 2, format: text}\n";
    let args =
        ["--cluster-cidr", "fd00::/48", "--masquerade-all", "-v", "5", "--init-only", "--ipvs-scheduler=x"];
    let read = with_file(lines, &args).unwrap();
    assert_eq!(read.settings.locality, Locality::Networks(vec!["10.0.0.0/8".parse().unwrap()]));
    assert!(!read.settings.masquerade_all);
    assert_eq!((read.file.logging.verbosity, read.task), (5, Task::Init));
    assert_eq!(read.remarks, ["ignored beside --config: --masquerade-all --cluster-cidr --ipvs-scheduler"]);
    assert_eq!(with_file(lines, &[]).unwrap().file.logging.verbosity, 2);
}

#[test]
fn beside_a_file_sockets_can_be_served_though_the_file_names_another_mode() {
    for lines in ["mode: nftables\n", "mode: ''\n"] {
        let read = with_file(lines, &["--proxy-mode=ebpf"]).unwrap();
        assert_eq!((read.mode(), &read.remarks[..]), ("ebpf", &[][..] as &[String]));
        let read = with_file(lines, &["--proxy-mode=nftables"]).unwrap();
        assert_eq!(
            (read.mode(), &read.remarks[..]),
            ("nftables", &["ignored beside --config: --proxy-mode".to_owned()][..])
        );
    }
}

#[test]
fn a_file_that_is_of_no_use_is_named_with_what_is_wrong() {
    assert!(
        config(&["--config", "/does/not/exist"])
            .unwrap_err()
            .starts_with("read the configuration file /does")
    );
    assert!(
        with_file("oomScoreAdj: much\n", &[]).unwrap_err().contains("config.conf: oomScoreAdj: invalid type")
    );
    let error = with_file("oomScoreAdj: 1001\nconntrack: {min: -1}\n", &[]).unwrap_err();
    assert_eq!(error.matches("Invalid value").count(), 2, "{error}");
    assert!(!error.contains('\n'));
}

#[test]
fn a_new_file_asks_for_what_its_changes_need() {
    let old = with_file("mode: nftables\n", &[]).unwrap();
    let step = |lines: &str| old.step_to(&with_file(lines, &[]).unwrap());
    assert_eq!(step("# as before\nmode: nftables\nbindAddress: 0.0.0.0\n"), Step::Nothing);
    assert_eq!(step("mode: nftables\nipvs: {scheduler: lc}\nportRange: '7'\n"), Step::Nothing);
    assert_eq!(step("mode: nftables\nlogging: {verbosity: 4}\n"), Step::Verbosity(4));
    assert_eq!(step("mode: nftables\niptables: {masqueradeAll: true}\n"), Step::Nothing);
    let restart = |fields: &[&str]| Step::Restart(fields.iter().map(ToString::to_string).collect());
    assert_eq!(
        step("mode: nftables\nclusterCIDR: 10.0.0.0/8\nlogging: {verbosity: 4}\n"),
        restart(&["clusterCIDR"])
    );
    assert_eq!(step("mode: iptables\n"), restart(&["mode"]));
    assert_eq!(
        step("mode: nftables\nnftables: {masqueradeAll: true}\n"),
        restart(&["nftables.masqueradeAll"])
    );
    let period = restart(&["nftables.syncPeriod"]);
    assert_eq!(step("mode: nftables\niptables: {syncPeriod: 7s}\nnftables: {syncPeriod: 7s}\n"), period);
    assert_eq!(
        step("mode: nftables\nheddle: {connectionMetrics: true}\n"),
        restart(&["heddle.connectionMetrics"])
    );
    let gates = "mode: nftables\nfeatureGates: {AllowServiceExternalIPs: false, NativeHistograms: true}\n";
    assert_eq!(step(gates), restart(&["featureGates.AllowServiceExternalIPs"]));
}

/// The ConfigMap that kubeadm makes: nearly every field is there, and says nothing.
const KUBEADM: &str = r#"bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 0
  contentType: ""
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack:
  maxPerCore: null
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: null
  tcpEstablishedTimeout: null
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal:
  bridgeInterface: ""
  interfaceNamePrefix: ""
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables:
  localhostNodePorts: null
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
ipvs:
  excludeCIDRs: null
  minSyncPeriod: 0s
  scheduler: ""
  strictARP: false
  syncPeriod: 0s
  tcpFinTimeout: 0s
  tcpTimeout: 0s
  udpTimeout: 0s
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: "0"
    text:
      infoBufferSize: "0"
  verbosity: 0
metricsBindAddress: ""
mode: ""
nftables:
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel:
  enableDSR: false
  forwardHealthCheckVip: false
  networkName: ""
  rootHnsEndpointName: ""
  sourceVip: ""
"#;

#[test]
fn what_kubeadm_ships_says_two_things() {
    let read = with_file(KUBEADM, &["--hostname-override=node-1"]).unwrap();
    let mut said = File::defaults();
    said.client_connection.kubeconfig = "/var/lib/kube-proxy/kubeconfig.conf".into();
    said.cluster_cidr = "10.244.0.0/16".into();
    said.hostname_override = "node-1".into();
    assert_eq!((read.file, read.remarks), (said, Vec::new()));
    assert_eq!(read.settings.locality, Locality::Networks(vec!["10.244.0.0/16".parse().unwrap()]));
}

/// kind hands what it sets to kubeadm, whose file then has it. Its nodes share the limit of connections with their host, and
/// without root the times too.
fn kind(mode: &str, rootless: bool) -> Config {
    let zero = if rootless { "0s" } else { "null" };
    let text = KUBEADM
        .replace("mode: \"\"\n", &format!("mode: {mode}\nfeatureGates: {{SomethingOfTheKubelet: true}}\n"))
        .replacen("minSyncPeriod: 0s", "minSyncPeriod: 1s", 1)
        .replace("maxPerCore: null", "maxPerCore: 0")
        .replace("tcpBeLiberal: false", &format!("tcpBeLiberal: {}", mode == "nftables" && !rootless))
        .replace("tcpCloseWaitTimeout: null", &format!("tcpCloseWaitTimeout: {zero}"))
        .replace("tcpEstablishedTimeout: null", &format!("tcpEstablishedTimeout: {zero}"));
    with_file(&text, &["--hostname-override=kind-worker"]).unwrap()
}

#[test]
fn what_kind_ships_leaves_the_hosts_limits_alone() {
    let iptables = kind("iptables", false);
    let conntrack = Conntrack { max_per_core: 0, ..Conntrack::default() };
    assert_eq!(iptables.file.conntrack, conntrack);
    assert_eq!(iptables.settings.node_port_addresses, NodePortAddresses::Networks(Vec::new()));
    assert_eq!(iptables.settings.locality, Locality::Networks(vec!["10.244.0.0/16".parse().unwrap()]));
    let said = &iptables.remarks;
    assert!(said[0].contains("taken as nftables") && said[1].contains("SomethingOfTheKubelet"), "{said:?}");
    assert_eq!(said.len(), 2, "{said:?}");

    let nftables = kind("nftables", false);
    assert_eq!(nftables.file.conntrack, Conntrack { tcp_be_liberal: true, ..conntrack.clone() });
    assert_eq!(nftables.settings.node_port_addresses, NodePortAddresses::Primary);

    let zero = GoDuration::default();
    let without_times =
        Conntrack { tcp_established_timeout: zero, tcp_close_wait_timeout: zero, ..conntrack };
    assert_eq!(kind("iptables", true).file.conntrack, without_times);
}

/// k3s gives flags, and serves health on the loopback address of the node's family.
#[test]
fn what_k3s_gives_is_read() {
    let read = config(&[
        "--cluster-cidr=10.42.0.0/16",
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-close-wait=0s",
        "--conntrack-tcp-timeout-established=0s",
        "--healthz-bind-address=127.0.0.1",
        "--hostname-override=Server-0",
        "--kubeconfig=/k",
        "--proxy-mode=iptables",
    ]);
    let read = read.unwrap();
    assert_eq!((read.node.as_str(), read.file.conntrack.max_per_core), ("server-0", 0));
    assert_eq!(read.file.healthz_bind_address, "127.0.0.1:10256");
    assert_eq!(read.settings.locality, Locality::Networks(vec!["10.42.0.0/16".parse().unwrap()]));
    assert_eq!(read.settings.node_port_addresses, NodePortAddresses::Networks(Vec::new()));
    let zero = GoDuration::default();
    let conntrack = &read.file.conntrack;
    assert_eq!((conntrack.tcp_established_timeout, conntrack.tcp_close_wait_timeout), (zero, zero));
    assert_eq!(read.remarks.len(), 1, "the mode only: {:?}", read.remarks);
    let six =
        config(&["--healthz-bind-address=::1", "--cluster-cidr=10.42.0.0/16,2001:cafe:42::/56"]).unwrap();
    assert_eq!(six.file.healthz_bind_address, "[::1]:10256");
    assert!(matches!(six.settings.locality, Locality::Networks(networks) if networks.len() == 2));
}
