use super::*;

fn name(name: &str) -> ObjectName {
    ObjectName::new("default", name)
}

fn ranges(texts: &[&str]) -> Vec<IpNetwork> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn slice(service: &str, last: u8) -> Slice {
    let endpoint = SliceEndpoint {
        address: IpAddr::from([10, 0, 0, last]),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        hints: None,
    };
    Slice { service: service.into(), ports: vec![], endpoints: vec![endpoint], trigger: Triggered::default() }
}

fn model_with(services: &[&str]) -> Model {
    let mut model = Model::default();
    for service in services {
        model.apply(Change::ServiceApplied(name(service), Service::default().into()));
    }
    model.take_dirty();
    model
}

fn dirty_services(names: &[&str]) -> Dirty {
    Dirty { services: names.iter().map(|dirty| name(dirty)).collect(), ..Dirty::default() }
}

/// kp:A5
#[test]
fn an_object_that_comes_again_unchanged_makes_nothing_dirty() {
    let mut model = model_with(&["a"]);
    let again = || {
        [
            Change::ServiceApplied(name("a"), Service::default().into()),
            Change::SliceApplied(name("a-1"), slice("a", 1).into()),
            Change::NodeApplied(Node::default()),
            Change::ServiceCidrApplied("x".into(), ranges(&["10.0.0.0/8"])),
        ]
    };
    again().into_iter().for_each(|change| model.apply(change));
    assert_ne!(model.take_dirty(), Dirty::default());
    again().into_iter().for_each(|change| model.apply(change));
    assert_eq!(model.take_dirty(), Dirty::default());
}

#[test]
fn the_size_is_what_is_held_and_not_what_was_heard() {
    let mut model = model_with(&["a"]);
    let size = |services, slices, endpoints| Size { services, slices, endpoints };
    for change in [
        Change::SliceApplied(name("a-1"), slice("a", 1).into()),
        Change::SliceApplied(name("a-1"), slice("a", 2).into()),
        Change::SliceApplied(name("a-1"), slice("b", 2).into()),
        Change::SliceApplied(name("a-2"), slice("a", 3).into()),
    ] {
        model.apply(change);
    }
    assert_eq!(model.size(), size(1, 2, 2));
    model.apply(Change::SliceGone(name("a-1")));
    model.apply(Change::SliceGone(name("a-1")));
    model.apply(Change::ServiceGone(name("a")));
    assert_eq!(model.size(), size(0, 1, 1));
}

#[test]
fn a_slice_that_changes_its_label_makes_both_services_dirty() {
    let mut model = model_with(&["a", "b"]);
    model.apply(Change::SliceApplied(name("s"), slice("a", 1).into()));
    assert_eq!(model.take_dirty(), dirty_services(&["a"]));
    model.apply(Change::SliceApplied(name("s"), slice("b", 1).into()));
    assert_eq!(model.take_dirty(), dirty_services(&["a", "b"]));
    assert_eq!(model.slices_of(&name("a")).count(), 0);
    assert_eq!(model.slices_of(&name("b")).collect::<Vec<_>>(), [&slice("b", 1)]);
    model.apply(Change::SliceGone(name("s")));
    assert_eq!(model.take_dirty(), dirty_services(&["b"]));
    model.apply(Change::SliceGone(name("s")));
    assert_eq!(model.take_dirty(), Dirty::default());
}

#[test]
fn nothing_is_kept_of_what_is_gone() {
    let slice_first = [
        Change::SliceApplied(name("s"), slice("a", 1).into()),
        Change::ServiceApplied(name("a"), Service::default().into()),
        Change::SliceGone(name("s")),
        Change::ServiceGone(name("a")),
    ];
    let service_first = [
        Change::ServiceApplied(name("a"), Service::default().into()),
        Change::SliceApplied(name("s"), slice("a", 1).into()),
        Change::ServiceGone(name("a")),
        Change::SliceGone(name("s")),
    ];
    for changes in [slice_first, service_first] {
        let mut model = Model::default();
        for change in changes {
            model.apply(change);
            assert_eq!(model.take_dirty(), dirty_services(&["a"]));
        }
        assert!(model.entries.is_empty() && model.service_of.is_empty());
        model.apply(Change::ServiceGone(name("a")));
        assert_eq!(model.take_dirty(), Dirty::default());
    }
}

#[test]
fn slices_come_in_the_order_of_their_names_whatever_order_they_came_in() {
    let mut model = model_with(&["a"]);
    for last in [3, 1, 2] {
        model.apply(Change::SliceApplied(name(&format!("s{last}")), slice("a", last).into()));
    }
    model.apply(Change::SliceApplied(name("s2"), slice("a", 9).into()));
    let of: Vec<_> =
        model.slices_of(&name("a")).map(|slice| slice.endpoints[0].address.to_string()).collect();
    assert_eq!(of, ["10.0.0.1", "10.0.0.9", "10.0.0.3"]);
}

#[test]
fn a_service_and_its_slices_share_its_name() {
    let shares = |model: &Model| {
        let (service, _) = model.services().next().unwrap();
        model.slices_of(&name("a")).all(|slice| Arc::ptr_eq(&slice.service, &service.name))
    };
    let mut model = model_with(&["a"]);
    model.apply(Change::SliceApplied(name("s"), slice("a", 1).into()));
    assert!(shares(&model));
    let mut model = Model::default();
    model.apply(Change::SliceApplied(name("s"), slice("a", 1).into()));
    model.apply(Change::ServiceApplied(name("a"), Service::default().into()));
    model.apply(Change::SliceApplied(name("s"), slice("a", 2).into()));
    model.apply(Change::SliceApplied(name("t"), slice("a", 3).into()));
    assert!(shares(&model));
}

/// kp:B6
#[test]
fn a_change_of_zone_makes_every_service_dirty_and_other_changes_of_the_node_none() {
    let mut model = model_with(&["a", "b"]);
    let node = |zone: Option<&str>, last: u8| Node {
        addresses: vec![IpAddr::from([10, 0, 0, last])],
        zone: zone.map(Into::into),
        ..Node::default()
    };
    model.apply(Change::NodeApplied(node(None, 1)));
    assert_eq!(model.take_dirty(), Dirty { node: true, ..Dirty::default() });
    model.apply(Change::NodeApplied(node(Some("z"), 1)));
    assert_eq!(model.take_dirty(), Dirty { node: true, ..dirty_services(&["a", "b"]) });
    model.apply(Change::NodeApplied(node(Some("z"), 2)));
    assert_eq!(model.take_dirty(), Dirty { node: true, ..Dirty::default() });
    model.apply(Change::NodeApplied(node(Some("z"), 2)));
    assert_eq!(model.take_dirty(), Dirty::default());
}

#[test]
fn a_node_without_its_object_keeps_its_addresses_and_its_zone() {
    let mut model = model_with(&["a"]);
    let node = Node {
        name: "node-1".into(),
        addresses: vec![IpAddr::from([10, 0, 0, 1])],
        zone: Some("z".into()),
        pod_cidrs: ranges(&["10.1.0.0/24"]),
        ..Node::default()
    };
    assert!(!model.node_exists());
    model.apply(Change::NodeApplied(node.clone()));
    assert!(model.node_exists());
    model.take_dirty();
    model.apply(Change::NodeGone("node-1".into()));
    assert!(!model.node_exists());
    assert_eq!(model.node(), &node);
    assert_eq!(model.take_dirty(), Dirty { node: true, ..Dirty::default() });
    model.apply(Change::NodeGone("node-1".into()));
    assert_eq!(model.take_dirty(), Dirty::default());
}

/// kp:A4
#[test]
fn a_range_that_two_objects_name_stays_until_both_are_gone() {
    let mut model = Model::default();
    let all = |model: &Model| model.service_cidrs().into_iter().collect::<Vec<_>>();
    let dirty = Dirty { service_cidrs: true, ..Dirty::default() };
    model.apply(Change::ServiceCidrApplied("kubernetes".into(), ranges(&["10.96.0.0/12", "fd00::/112"])));
    assert_eq!(model.take_dirty(), dirty);
    model.apply(Change::ServiceCidrApplied("more".into(), ranges(&["10.96.0.0/12"])));
    assert_eq!(model.take_dirty(), Dirty::default());
    model.apply(Change::ServiceCidrGone("kubernetes".into()));
    assert_eq!(all(&model), ranges(&["10.96.0.0/12"]));
    assert_eq!(model.take_dirty(), dirty);
    model.apply(Change::ServiceCidrGone("more".into()));
    assert_eq!(all(&model), []);
    assert_eq!(model.take_dirty(), dirty);
}

/// kp:A13
#[test]
fn only_services_and_slices_are_waited_for() {
    let mut model = Model::default();
    assert_eq!(model.awaited().collect::<Vec<_>>(), [Kind::Service, Kind::Slice]);
    model.apply(Change::Complete(Kind::Service));
    assert!(!model.ready());
    model.apply(Change::Complete(Kind::Slice));
    assert!(model.ready());
}

#[test]
fn pods_are_waited_for_where_they_are_watched() {
    let mut model = Model::default().with_pods(true);
    [Kind::Service, Kind::Slice].into_iter().for_each(|kind| model.apply(Change::Complete(kind)));
    assert_eq!(model.awaited().collect::<Vec<_>>(), [Kind::Pod]);
    model.apply(Change::Complete(Kind::Pod));
    assert!(model.ready());
}

#[test]
fn an_address_is_left_out_while_a_pod_has_it_that_is() {
    let mut model = Model::default();
    let addresses =
        |last: &[u8]| -> Vec<IpAddr> { last.iter().map(|last| [10, 244, 1, *last].into()).collect() };
    let dirty = Dirty { left_out: true, ..Dirty::default() };
    model.apply(Change::PodApplied(name("a"), addresses(&[7])));
    assert_eq!(model.take_dirty(), dirty);
    model.apply(Change::PodApplied(name("a"), addresses(&[7])));
    assert_eq!(model.take_dirty(), Dirty::default());
    // The next one of a StatefulSet may be known before the one before is gone.
    model.apply(Change::PodApplied(name("b"), addresses(&[7, 8])));
    assert_eq!(model.take_dirty(), dirty);
    model.apply(Change::PodGone(name("a")));
    assert_eq!(model.take_dirty(), Dirty::default());
    assert_eq!(model.left_out(), addresses(&[7, 8]).into_iter().collect());
    model.apply(Change::PodGone(name("b")));
    assert_eq!((model.take_dirty(), model.left_out().len()), (dirty, 0));
}
