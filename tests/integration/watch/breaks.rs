//! A server that breaks off, forgets, fails or is away takes nothing with it.

use super::{Cluster, Heard, Outcomes, Source, gone};
use heddle_tests::apiserver::ApiServer;
use heddle_tests::patience::{PATIENCE, eventually};

#[test]
fn cut_watches_are_taken_up_where_they_broke_off() -> Outcomes {
    let cluster = Cluster::new("watch-cut")?;
    cluster.service("a", "10.96.0.1")?;
    cluster.service("b", "10.96.0.2")?;
    let source = Source::start(&cluster)?;
    source.comes_to(&["a 10.96.0.1", "b 10.96.0.2"])?;
    source.with(Heard::take);
    cluster.server.cut_watches();
    cluster.delete_service("a")?;
    cluster.service("c", "10.96.0.3")?;
    source.comes_to(&["b 10.96.0.2", "c 10.96.0.3"])?;
    let changes = source.with(Heard::take);
    assert!(!changes.contains(&gone("b")), "{changes:?}");
    source.stop()
}

/// How often Services were asked for.
fn questions(cluster: &Cluster) -> usize {
    let asked = cluster.server.asked();
    asked.iter().filter(|(asked, _)| asked.resource == "services").map(|(_, times)| times).sum()
}

/// Waits until they were asked for again.
fn asks_again(cluster: &Cluster, before: usize) -> Outcomes {
    eventually("another question", PATIENCE, || match questions(cluster) {
        asked if asked > before => Ok(()),
        asked => Err(format!("{asked} after {before}")),
    })?;
    Ok(())
}

#[test]
fn a_watch_that_breaks_off_in_the_middle_of_an_object_loses_nothing() -> Outcomes {
    let cluster = Cluster::new("watch-half")?;
    cluster.service("a", "10.96.0.1")?;
    cluster.service("b", "10.96.0.2")?;
    let source = Source::start(&cluster)?;
    source.comes_to(&["a 10.96.0.1", "b 10.96.0.2"])?;
    source.rests()?;
    let before = questions(&cluster);
    cluster.server.halve();
    cluster.service("c", "10.96.0.3")?;
    cluster.delete_service("a")?;
    asks_again(&cluster, before)?;
    assert_eq!(source.with(Heard::take), [], "half an object says nothing");
    cluster.server.recover();
    source.comes_to(&["b 10.96.0.2", "c 10.96.0.3"])?;
    let changes = source.with(Heard::take);
    assert!(!changes.contains(&gone("b")), "{changes:?}");
    source.stop()
}

#[test]
fn a_server_that_talks_nonsense_or_fails_takes_nothing_with_it() -> Outcomes {
    for (name, break_it) in
        [("watch-nonsense", ApiServer::babble as fn(&ApiServer)), ("watch-500", |server| server.fail(500))]
    {
        let cluster = Cluster::new(name)?;
        cluster.service("a", "10.96.0.1")?;
        let source = Source::start(&cluster)?;
        source.comes_to(&["a 10.96.0.1"])?;
        source.rests()?;
        let before = questions(&cluster);
        break_it(&cluster.server);
        cluster.server.cut_watches();
        cluster.service("b", "10.96.0.2")?;
        asks_again(&cluster, before)?;
        assert_eq!(source.with(Heard::take), [], "nothing was said");
        cluster.server.recover();
        source.comes_to(&["a 10.96.0.1", "b 10.96.0.2"])?;
        let changes = source.with(Heard::take);
        assert!(!changes.contains(&gone("a")), "{changes:?}");
        source.stop()?;
    }
    Ok(())
}

/// What is deleted while the history is forgotten is known only from the next list.
fn survives_compaction(cluster: &Cluster) -> Outcomes {
    cluster.service("a", "10.96.0.1")?;
    cluster.service("b", "10.96.0.2")?;
    let source = Source::start(cluster)?;
    source.comes_to(&["a 10.96.0.1", "b 10.96.0.2"])?;
    source.with(Heard::take);
    cluster.server.refuse()?;
    cluster.has_refused()?;
    cluster.delete_service("a")?;
    cluster.service("c", "10.96.0.3")?;
    cluster.server.compact();
    cluster.server.listen()?;
    source.comes_to(&["b 10.96.0.2", "c 10.96.0.3"])?;
    let changes = source.with(Heard::take);
    assert!(changes.contains(&gone("a")) && !changes.contains(&gone("b")), "{changes:?}");
    source.stop()
}

#[test]
fn after_a_compaction_all_is_listed_again_and_what_is_missing_is_gone() -> Outcomes {
    survives_compaction(&Cluster::new("watch-compact")?)
}

#[test]
fn after_a_compaction_a_server_without_streaming_lists_is_listed_again() -> Outcomes {
    let cluster = Cluster::new("watch-compact-pages")?;
    cluster.server.disable_streaming_lists();
    survives_compaction(&cluster)
}

#[test]
fn a_server_that_is_away_takes_nothing_with_it() -> Outcomes {
    let cluster = Cluster::new("watch-away")?;
    cluster.service("a", "10.96.0.1")?;
    let source = Source::start(&cluster)?;
    source.comes_to(&["a 10.96.0.1"])?;
    source.with(Heard::take);
    cluster.server.refuse()?;
    cluster.has_refused()?;
    cluster.service("b", "10.96.0.2")?;
    cluster.server.listen()?;
    source.comes_to(&["a 10.96.0.1", "b 10.96.0.2"])?;
    let changes = source.with(Heard::take);
    assert!(!changes.contains(&gone("a")), "{changes:?}");
    source.stop()
}

#[test]
fn a_server_that_comes_late_is_waited_for() -> Outcomes {
    let cluster = Cluster::new("watch-late")?;
    cluster.server.refuse()?;
    let source = Source::start(&cluster)?;
    cluster.has_refused()?;
    cluster.service("a", "10.96.0.1")?;
    cluster.server.listen()?;
    source.comes_to(&["a 10.96.0.1"])?;
    source.stop()
}

#[test]
fn a_server_that_stalls_goes_on_where_it_stopped() -> Outcomes {
    let cluster = Cluster::new("watch-stall")?;
    let source = Source::start(&cluster)?;
    source.comes_to(&[])?;
    cluster.server.stall();
    cluster.service("a", "10.96.0.1")?;
    cluster.server.resume();
    source.comes_to(&["a 10.96.0.1"])?;
    source.stop()
}
