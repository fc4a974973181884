use super::*;

fn config(args: &[&str]) -> Result<Config, String> {
    let args = ["heddle-proxy"].iter().chain(args).copied();
    Config::from_flags(args, || "Host.Example ".to_owned()).map_err(|e| e.to_string())
}

#[test]
fn flags_of_the_first_path_are_read() {
    let read = config(&["--manifests", "dir", "--proxy-mode", "nftables", "--hostname-override", " Node-1 "]);
    let read = read.unwrap();
    assert_eq!(read.node, "node-1");
    assert_eq!(read.source, Source::Manifests("dir".into()));
    assert_eq!(read.mode, Mode::Nftables);
}

/// kp:J1
#[test]
fn the_node_is_named_after_the_flag_then_after_the_host_trimmed_and_lower_cased() {
    assert_eq!(config(&[]).unwrap().node, "host.example");
    assert_eq!(config(&["--hostname-override", " A "]).unwrap().node, "a");
    assert!(config(&["--hostname-override", "  "]).unwrap_err().contains("--hostname-override"));
}

#[test]
fn the_api_server_is_the_source_without_manifests() {
    let read = config(&["--kubeconfig", "k", "--master", "https://192.0.2.1:6443"]).unwrap();
    let (kubeconfig, master) = (Some("k".into()), Some("https://192.0.2.1:6443".to_owned()));
    assert_eq!(read.source, Source::ApiServer { kubeconfig, master });
    assert_eq!(config(&[]).unwrap().source, Source::ApiServer { kubeconfig: None, master: None });
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
    assert!(config(&bridge[..2]).unwrap_err().contains("--pod-bridge-interface"));
}

#[test]
fn node_port_addresses_are_networks_or_primary() {
    let addresses = |args: &[&str]| config(args).map(|c| c.settings.node_port_addresses);
    assert_eq!(addresses(&[]).unwrap(), NodePortAddresses::Primary);
    let networks = NodePortAddresses::Networks(vec!["10.0.0.0/8".parse().unwrap()]);
    assert_eq!(addresses(&["--nodeport-addresses", "10.0.0.0/8"]).unwrap(), networks);
    let error = addresses(&["--nodeport-addresses", "10.0.0.0/8,primary"]).unwrap_err();
    assert!(error.contains("\"primary\" is neither"), "{error}");
}

#[test]
fn wrong_flags_are_named() {
    assert!(config(&["--frobnicate"]).unwrap_err().contains("--frobnicate"));
    assert!(config(&["--proxy-mode", "magic"]).unwrap_err().contains("[possible values: nftables]"));
    assert!(config(&["--manifests", "a", "--kubeconfig", "b"]).unwrap_err().contains("cannot be used with"));
    assert!(config(&["stray"]).unwrap_err().contains("stray"));
}
