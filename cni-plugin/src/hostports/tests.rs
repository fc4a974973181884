use super::*;

const MINE: &str = "hdl000000000001 pods/mine/eth0";
const THEIRS: &str = "hdl000000000002 pods/theirs/eth0";
const FOREIGN: &str = "ext000000000003 pods/foreign/eth0";

fn claim(port: u16, to: &str) -> Claim {
    Claim { protocol: 6, port, address: None, to: to.parse().unwrap() }
}

fn held(note: &str, claims: &[Claim]) -> Vec<(TableFamily, Noted)> {
    claims.iter().map(|claim| (family(claim), ruleset::element(claim, note))).collect()
}

fn outcome(
    elements: &[(TableFamily, Noted)],
    claims: &[Claim],
    lives: bool,
) -> Result<Vec<(usize, usize)>, String> {
    let edits = edits(elements, (claims, MINE), |_| Ok(lives)).map_err(|e| e.to_string())?;
    Ok(edits.iter().map(|edit| (edit.gone.len(), edit.new.len())).collect())
}

#[test]
fn a_free_port_is_claimed_with_the_way_to_itself() {
    let both = [claim(80, "10.0.0.2:8080"), claim(81, "10.0.0.2:8081"), claim(80, "[fd00::2]:8080")];
    let other = held(THEIRS, &[claim(82, "10.0.0.3:80")]);
    assert_eq!(outcome(&other, &both, true), Ok(vec![(0, 3), (0, 2)]));
}

#[test]
fn a_living_owner_keeps_its_port_and_is_named() {
    let refused = outcome(&held(THEIRS, &[claim(80, "10.0.0.3:80")]), &[claim(80, "10.0.0.2:80")], true);
    assert_eq!(refused, Err("tcp port 80 of the node is held by pods/theirs/eth0".to_owned()));
}

/// A pod whose DEL never came must not hold its port for ever: containerd never calls GC.
#[test]
fn a_dead_owner_loses_its_port() {
    let taken = outcome(&held(THEIRS, &[claim(80, "10.0.0.3:80")]), &[claim(80, "10.0.0.2:80")], false);
    assert_eq!(taken, Ok(vec![(1, 2)]));
}

#[test]
fn of_another_plugins_pod_nobody_knows_whether_it_is_dead() {
    let refused = outcome(&held(FOREIGN, &[claim(80, "10.0.0.3:80")]), &[claim(80, "10.0.0.2:80")], false);
    assert!(refused.unwrap_err().contains("pods/foreign/eth0"));
}

#[test]
fn what_the_attachment_had_before_is_replaced() {
    let before = held(MINE, &[claim(80, "10.0.0.9:80"), claim(79, "10.0.0.9:79")]);
    assert_eq!(outcome(&before, &[claim(80, "10.0.0.2:80")], true), Ok(vec![(2, 2)]));
}

/// A DEL must not fail for ever on a kernel that cannot have ports; but one that may not ask must not say that there are none.
#[test]
fn a_kernel_without_nf_tables_is_told_from_one_that_refuses() {
    use heddle_netlink::Errno;
    for unknown in [Errno::PROTONOSUPPORT, Errno::OPNOTSUPP, Errno::INVAL] {
        assert!(is_unknown(Some(unknown.raw_os_error())));
    }
    assert!(!is_unknown(Some(Errno::PERM.raw_os_error())) && !is_unknown(None));
}
