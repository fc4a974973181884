//! What a proxy left in the kernel goes, and nothing else: our own tables, and kube-proxy's of all its modes, as the real
//! iptables, ipset and nft made them.

use heddle_proxy::cleanup::{self, Outcome};
use heddle_tests::lab::Lab;
use heddle_tests::namespace::Namespace;
use heddle_tests::objects::service;
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::process::Invocation;
use heddle_tests::proxy::{Manifests, Proxy};
use std::error::Error;

type Outcomes = Result<(), Box<dyn Error>>;

/// As kube-proxy 1.36 and kubelet write them for one Service with one endpoint, beside a host port of a CNI plugin.
const IPTABLES: &str = "\
*mangle
:KUBE-IPTABLES-HINT - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-PROXY-CANARY - [0:0]
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SEP-IT2ZTR26TO4XFPTO - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-TCOU7JCQXEZGVUNU - [0:0]
-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
-A CNI-HOSTPORT-DNAT -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.244.0.5:80
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
-A KUBE-SEP-IT2ZTR26TO4XFPTO -s 10.244.0.2/32 -j KUBE-MARK-MASQ
-A KUBE-SEP-IT2ZTR26TO4XFPTO -p udp -m udp -j DNAT --to-destination 10.244.0.2:53
-A KUBE-SERVICES -d 10.96.0.10/32 -p udp -m udp --dport 53 -j KUBE-SVC-TCOU7JCQXEZGVUNU
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -g KUBE-NODEPORTS
-A KUBE-SVC-TCOU7JCQXEZGVUNU -m statistic --mode random --probability 0.5 -j KUBE-SEP-IT2ZTR26TO4XFPTO
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
-A INPUT -j KUBE-FIREWALL
-A FORWARD -j KUBE-FORWARD
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
COMMIT
";

/// The lines of a ruleset that a clean-up may take away.
fn is_kube_proxys(line: &str) -> bool {
    line.contains("KUBE-")
        && !["FIREWALL", "KUBELET-CANARY", "IPTABLES-HINT"].iter().any(|n| line.contains(n))
}

fn run(inside: &Namespace, program: &str, arguments: &[&str], input: &str) -> Result<String, Box<dyn Error>> {
    let ended = Invocation::foreign(program).args(arguments).input(input).run(inside)?;
    match ended.status.success() {
        true => Ok(ended.stdout),
        false => Err(format!("{program} {arguments:?}: {}", ended.stderr).into()),
    }
}

/// The rules that iptables-nft has, without the counters and the times in comments.
fn rules(inside: &Namespace, tool: &str) -> Result<Vec<String>, Box<dyn Error>> {
    let saved = run(inside, &format!("{tool}-nft-save"), &[], "")?;
    let counted = |line: &str| line.split(" [").next().unwrap_or_default().to_owned();
    Ok(saved.lines().filter(|line| !line.starts_with('#')).map(counted).collect())
}

fn clean(
    inside: &Namespace,
    clean: fn() -> Result<Outcome, heddle_netlink::Error>,
) -> Result<Outcome, Box<dyn Error>> {
    let outcome = inside.enter(clean)??;
    match outcome.failures.first() {
        Some(failure) => Err(failure.to_string().into()),
        None => Ok(outcome),
    }
}

/// kp:I2
#[test]
fn what_kube_proxy_left_in_any_mode_goes_and_what_others_made_stays() -> Outcomes {
    let node = Namespace::new("node")?;
    run(&node, "iptables-nft-restore", &[], IPTABLES)?;
    let ip6 = IPTABLES.replace("10.244.0.5:80", "[fd00::5]:80").replace("10.244.0.2:53", "[fd00::2]:53");
    let ip6 = ip6.replace("10.244.0.2/32", "fd00::2/128").replace("10.96.0.10/32", "fd00:96::a/128");
    let ip6 = ip6.replace("127.0.0.0/8", "::1/128");
    run(&node, "ip6tables-nft-restore", &[], &ip6)?;
    let nft = "table ip kube-proxy { chain services { }; }; table ip6 kube-proxy { chain services { }; }; \
               table ip heddle-proxy { }; table ip other { chain KUBE-SERVICES { }; }";
    run(&node, "nft", &["-f", "-"], nft)?;
    run(&node, "ipset", &["create", "KUBE-CLUSTER-IP", "hash:ip,port"], "")?;
    run(&node, "ipset", &["create", "mine", "hash:ip"], "")?;
    run(&node, "ip", &["link", "add", "kube-ipvs0", "type", "bridge"], "")?;
    let [before4, before6] = [rules(&node, "iptables")?, rules(&node, "ip6tables")?];
    assert!(before4.iter().any(|line| is_kube_proxys(line)));

    let outcome = clean(&node, cleanup::kube_proxys)?;

    for (tool, before) in [("iptables", before4), ("ip6tables", before6)] {
        let others: Vec<String> = before.into_iter().filter(|line| !is_kube_proxys(line)).collect();
        assert_eq!(rules(&node, tool)?, others, "{tool}");
    }
    let tables = run(&node, "nft", &["list", "tables"], "")?;
    assert!(!tables.contains("kube-proxy"), "{tables}");
    assert!(run(&node, "nft", &["list", "table", "ip", "other"], "")?.contains("KUBE-SERVICES"));
    assert_eq!(run(&node, "ipset", &["list", "-n"], "")?, "mine\n");
    assert!(run(&node, "ip", &["link", "show", "kube-ipvs0"], "").is_err());
    for what in [
        "table ip kube-proxy",
        "kube-proxy's chains in table ip6 nat",
        "ipset KUBE-CLUSTER-IP",
        "link kube-ipvs0",
    ] {
        assert!(outcome.removed.iter().any(|removed| removed == what), "{what}: {outcome:?}");
    }

    let again = clean(&node, cleanup::kube_proxys)?;
    assert!(again.removed.is_empty(), "{again:?}");
    assert!(tables.contains("table ip heddle-proxy"), "ours is not kube-proxy's");
    Ok(())
}

#[test]
fn only_our_own_tables_go_when_no_more_is_asked_for() -> Outcomes {
    let node = Namespace::new("node")?;
    run(
        &node,
        "nft",
        &["-f", "-"],
        "table ip kube-proxy { }; table ip heddle-proxy { }; table ip6 heddle-proxy { }",
    )?;
    assert_eq!(clean(&node, cleanup::ours)?.removed, ["table ip heddle-proxy", "table ip6 heddle-proxy"]);
    assert_eq!(run(&node, "nft", &["list", "tables"], "")?, "table ip kube-proxy\n");
    assert!(clean(&node, cleanup::ours)?.removed.is_empty());
    Ok(())
}

/// kp:I2
#[test]
fn cleanup_removes_our_rules_and_on_request_kube_proxys_and_exits() -> Outcomes {
    let node = Namespace::new("node")?;
    let both = "table ip heddle-proxy { }; table ip6 kube-proxy { };";
    for (flags, left) in
        [(&["--cleanup"][..], "table ip6 kube-proxy\n"), (&["--cleanup", "--cleanup-kube-proxy"][..], "")]
    {
        run(&node, "nft", &["-f", "-"], both)?;
        let ended = Invocation::of("heddle-proxy")?.args(flags).run(&node)?;
        assert!(ended.status.success(), "{ended:?}");
        assert!(ended.stderr.contains("table ip heddle-proxy"), "{ended:?}");
        assert_eq!(run(&node, "nft", &["list", "tables"], "")?, left);
    }
    Ok(())
}

/// kp:I1: with a word from the operator, and make before break.
#[test]
fn kube_proxys_rules_go_once_ours_stand_when_we_take_its_place() -> Outcomes {
    let lab = Lab::new(&["node-1"])?;
    let node = lab.node("node-1")?;
    let manifests = Manifests::of(node)?;
    manifests.put("service.json", &service("web", &["10.96.0.10".parse()?], 80, 8080).to_string())?;
    run(node.namespace(), "nft", &["-f", "-"], "table ip kube-proxy { chain services { }; }")?;
    let kube_proxys = || run(node.namespace(), "nft", &["list", "table", "ip", "kube-proxy"], "");

    let mut beside = Proxy::start(node, &manifests)?;
    beside.ready(node)?;
    beside.process().prints("--cleanup-kube-proxy removes them")?;
    kube_proxys()?;
    drop(beside);

    let folder = manifests.folder();
    let mut replacing = Proxy::start_with(node, &["--manifests", &folder, "--cleanup-kube-proxy"])?;
    eventually("kube-proxy's table to go", PATIENCE, || match kube_proxys() {
        Err(_) => Ok(()),
        Ok(_) => Err(replacing.log()),
    })?;
    assert!(
        run(node.namespace(), "nft", &["list", "table", "ip", "heddle-proxy"], "")?.contains("10.96.0.10")
    );
    // It is said once it is done.
    replacing.process().prints("removed of kube-proxy")?;
    let log = replacing.log();
    let (ours, theirs) = (log.find("wrote the Services"), log.find("removed of kube-proxy"));
    assert!(ours.is_some() && ours < theirs, "{log}");
    Ok(())
}

#[test]
fn chains_in_iptables_legacy_are_told_of_and_left() -> Outcomes {
    let node = Namespace::new("node")?;
    assert!(clean(&node, cleanup::kube_proxys)?.left.is_empty());
    run(&node, "iptables-legacy", &["-t", "nat", "-N", "KUBE-SERVICES"], "")?;
    let left = clean(&node, cleanup::kube_proxys)?.left.join("\n");
    assert!(left.contains("iptables-legacy-save") && !left.contains("ip6tables"), "{left}");
    Ok(())
}

#[test]
fn a_chain_that_somebody_elses_chain_needs_stays_and_the_rest_goes() -> Outcomes {
    let node = Namespace::new("node")?;
    let portmap = "-A CNI-HOSTPORT-DNAT -j KUBE-MARK-MASQ\nCOMMIT\n*filter";
    run(&node, "iptables-nft-restore", &[], &IPTABLES.replacen("COMMIT\n*filter", portmap, 1))?;
    clean(&node, cleanup::kube_proxys)?;
    let left = rules(&node, "iptables")?.join("\n");
    for kept in [":KUBE-MARK-MASQ", ":KUBE-POSTROUTING", "-j MASQUERADE", "-j KUBE-POSTROUTING"] {
        assert!(left.contains(kept), "{kept} in {left}");
    }
    assert!(!left.contains("KUBE-SERVICES"), "{left}");
    Ok(())
}
