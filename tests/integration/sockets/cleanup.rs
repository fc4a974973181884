//! What `--cleanup` takes away.

use super::{Outcomes, Stage, WEB};
use heddle_tests::traffic::Outcome;
use std::fs;

#[test]
fn cleanup_removes_programs_and_tables_and_connections_go_on() -> Outcomes {
    let mut stage = Stage::new()?;
    let mut held = stage.hold(50)?;
    stage.proxy.process().kill()?;
    let ended = stage.start.invocation(&["--cleanup"])?.run(&stage.start.inside)?;
    assert!(ended.status.success(), "{ended:?}");
    for removed in
        [&format!("programs in {}", stage.pins().display()), "table ip heddle-proxy, table ip6 heddle-proxy"]
    {
        assert!(ended.stderr.contains(removed), "{removed} in {ended:?}");
    }
    assert!(!stage.pins().exists(), "{:?}", stage.pinned());
    assert_eq!(stage.asks(stage.client.namespace(), WEB)?, Outcome::Unreachable);
    held.connections_go_on()?;

    let again = stage.start.invocation(&["--cleanup"])?.run(&stage.start.inside)?;
    assert!(again.status.success(), "{again:?}");
    assert_eq!(again.stderr.matches("nothing was there").count(), 2, "{again:?}");
    Ok(())
}

/// Whoever cleans up is told what is left, and the rest is gone.
#[test]
fn what_cannot_be_removed_is_named_and_the_tables_go_nevertheless() -> Outcomes {
    let mut stage = Stage::new()?;
    stage.proxy.process().kill()?;
    fs::create_dir(stage.pins().join("foreign"))?;
    let ended = stage.start.invocation(&["--cleanup"])?.run(&stage.start.inside)?;
    assert!(!ended.status.success(), "{ended:?}");
    assert!(ended.stderr.contains(&format!("remove programs in {}: ", stage.pins().display())), "{ended:?}");
    assert!(ended.stderr.contains("1 of what was to be removed is still there"), "{ended:?}");
    assert_eq!(
        (stage.pinned(), stage.node()?.nft(["list", "tables"])?.stdout),
        (vec!["foreign".to_owned()], String::new())
    );
    Ok(())
}
