//! When pods' connections are tracked, and when they are not.

use super::*;

/// What one pod sends to another is not tracked, and what is for the node is, whatever addresses it gets.
#[test]
fn what_is_not_tracked_follows_the_nodes_addresses_among_its_pods() {
    let (mut agent, _) = agent_with(&Settings { untracking: Untracking::Alone, ..Settings::default() });
    let range: IpNetwork = "10.244.1.0/24".parse().unwrap();
    let node = Node { name: NODE.into(), pod_cidrs: vec![range], ..Node::default() };
    tell(&mut agent, services(1).chain([Change::NodeApplied(node)]).chain(complete()));
    tell(&mut agent, [Change::Complete(Kind::Node)]);
    let between = |end| Statement::Address(end, Sense::Is, range);
    let own = |last: u8| IpAddr::from([10, 244, 1, last]);
    let not_ours = |last| Statement::Address(End::Destination, Sense::IsNot, own(last).into());
    // With many, the kernel is asked.
    let many = Statement::Local(End::Destination, Sense::IsNot);
    for (more, excepted) in [
        (vec![], vec![]),
        (vec![own(1)], vec![not_ours(1)]),
        (vec![own(9)], vec![not_ours(1), not_ours(9)]),
        ((20..30).map(own).collect(), vec![many]),
    ] {
        agent.dataplane().door().addresses.extend(more);
        agent.take(Event::AddressesChanged);
        // The second one, once it is known that sockets are served.
        (0..2).for_each(|_| assert_eq!(agent.sync(), None));
        let table = &agent.dataplane().packets().kernel().tables[&TableFamily::Ip];
        let head = [between(End::Source), between(End::Destination)].into_iter();
        let rule: Vec<_> = head.chain(excepted).chain([Statement::Notrack]).collect();
        assert_eq!(table.chains["untracked"].rules, [rule]);
    }
}

/// A node with pods, of whose addresses it has one itself, that serves one Service; synced.
fn with_pods(untracking: Untracking) -> (Driven, Sockets) {
    let (mut agent, report) = agent_with(&Settings { untracking, ..Settings::default() });
    agent.dataplane().door().addresses.push([10, 244, 1, 1].into());
    let range = "10.244.1.0/24".parse().unwrap();
    let node = Node { name: NODE.into(), pod_cidrs: vec![range], ..Node::default() };
    tell(&mut agent, services(1).chain([Change::NodeApplied(node)]).chain(complete()));
    tell(&mut agent, [Change::Complete(Kind::Node)]);
    (0..2).for_each(|_| assert_eq!(agent.sync(), None));
    (agent, report)
}

/// Whether the rule is there that does not track, and whether bridges let frames pass.
fn untracked(agent: &mut Driven) -> (bool, bool) {
    let ebpf = agent.dataplane();
    let has_rule = ebpf.packets().kernel().tables[&TableFamily::Ip].chains.contains_key("untracked");
    (has_rule, !ebpf.door().passing.is_empty())
}

/// Others' rules changed, and it is time to look at them.
fn others_are(agent: &mut Driven, hindrance: Option<Hindrance>) {
    agent.dataplane().door().hindrance = hindrance;
    let (between, now) = (&mut agent.dataplane().between, Instant::now());
    [false, true].into_iter().for_each(|wanted| between.want(wanted, now));
    (0..3).for_each(|_| _ = agent.sync());
}

#[test]
fn pods_are_untracked_while_nothing_hinders_it_and_why_not_is_told() {
    let (mut agent, report) = with_pods(Untracking::Alone);
    assert_eq!((untracked(&mut agent), report.ask().tracked), ((true, true), None));
    others_are(&mut agent, Some(Hindrance::Rules("theirs".to_owned())));
    assert_eq!((untracked(&mut agent), report.ask().tracked), ((false, false), Some("theirs".to_owned())));
    others_are(&mut agent, None);
    assert_eq!(untracked(&mut agent), (true, true));
    // What cannot be looked at may be anything.
    agent.dataplane().door().fails.insert(Act::LookBetween, 1);
    others_are(&mut agent, None);
    assert_eq!(untracked(&mut agent), (false, false));
    assert!(report.ask().tracked.unwrap().contains("told to fail"));
    let (mut agent, report) = with_pods(Untracking::Never);
    assert_eq!(untracked(&mut agent), (false, false));
    assert_eq!(acts(&mut agent, Act::LookBetween), 0);
    assert!(report.ask().tracked.unwrap().contains("untrackedPods"));
}

/// What is not known yet changes nothing: neither before the first look nor while one goes on.
#[test]
fn a_look_that_takes_its_time_is_waited_for_and_delays_nothing() {
    let (mut agent, report) = with_pods(Untracking::Alone);
    agent.dataplane().door().is_slow = true;
    others_are(&mut agent, None);
    assert_eq!(report.ask().tracked.as_deref(), Some("nobody looked yet"));
    let due = agent.dataplane().due();
    eventually_due(&mut agent);
    assert!(due.is_some() && untracked(&mut agent) == (true, true));
}

/// Syncs until the next look is far away.
fn eventually_due(agent: &mut Driven) {
    for _ in 0..1_000_000 {
        _ = agent.sync();
        let is_near = |due: Instant| due < Instant::now() + Duration::from_secs(1);
        if !agent.dataplane().due().is_some_and(is_near) {
            return;
        }
    }
    panic!("it is always due");
}

#[test]
fn pods_are_tracked_again_when_sockets_are_not_served_and_when_packets_serve_one_service() {
    let (mut agent, report) = with_pods(Untracking::Alone);
    agent.dataplane().door().fails.insert(Act::Attach, 1);
    agent.dataplane().door().running = None;
    agent.take(Event::LookAgain);
    (0..2).for_each(|_| assert_eq!(agent.sync(), None));
    assert_eq!((untracked(&mut agent), why(&report).as_str()), ((false, false), "Attach: told to fail"));
    wait(&mut agent, true);
    (0..3).for_each(|_| _ = agent.sync());
    assert_eq!(untracked(&mut agent), (true, true));
    tell(&mut agent, service(2, Some(NODE_PORT)));
    (0..2).for_each(|_| _ = agent.sync());
    assert_eq!(untracked(&mut agent), (false, false));
    assert!(report.ask().tracked.unwrap().starts_with("packets serve"));
}

/// What bridges do not do costs time where they are to let frames pass, and connections where they are to hand them over.
#[test]
fn bridges_that_cannot_be_told_are_a_failure_only_where_frames_are_needed() {
    let (mut agent, _) = with_pods(Untracking::Never);
    agent.dataplane().door().passing = vec!["10.244.1.0/24".parse().unwrap()];
    agent.dataplane().passing = None;
    agent.dataplane().door().fails.insert(Act::LetPass, 1);
    agent.take(Event::LookAgain);
    assert!(agent.sync().is_some(), "it is tried again");
    assert_eq!(agent.sync(), None);
    assert!(agent.dataplane().door().passing.is_empty());
    let (mut agent, report) = agent_with(&Settings { untracking: Untracking::Alone, ..Settings::default() });
    agent.dataplane().door().fails.insert(Act::LetPass, 9);
    drop(report);
    let range = "10.244.1.0/24".parse().unwrap();
    let node = Node { name: NODE.into(), pod_cidrs: vec![range], ..Node::default() };
    agent.dataplane().passing = Some(Vec::new());
    tell(&mut agent, services(1).chain([Change::NodeApplied(node)]).chain(complete()));
    tell(&mut agent, [Change::Complete(Kind::Node)]);
    (0..3).for_each(|_| assert_eq!(agent.sync(), None));
    assert_eq!(untracked(&mut agent), (true, false));
}
