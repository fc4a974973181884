use super::*;

pub(super) fn names() -> Names {
    Names::default()
}

pub(super) fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

pub(super) fn prefixes(texts: &[&str]) -> Vec<IpNetwork> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

pub(super) fn texts(passed_over: Vec<FieldError>) -> Vec<String> {
    passed_over.into_iter().map(|error| error.to_string()).collect()
}

#[test]
fn kinds_are_known_by_group_and_version() {
    let of = |api_version: &str, name: &str| {
        kind(&Head { api_version: api_version.into(), kind: name.into(), metadata: Metadata::default() })
            .map_err(|error| error.to_string())
    };
    assert_eq!(of("v1", "Service"), Ok(Some(Kind::Service)));
    assert_eq!(of("discovery.k8s.io/v1", "EndpointSlice"), Ok(Some(Kind::Slice)));
    assert_eq!(of("v1", "Node"), Ok(Some(Kind::Node)));
    assert_eq!(of("networking.k8s.io/v1", "ServiceCIDR"), Ok(Some(Kind::ServiceCidr)));
    assert_eq!(of("apps/v1", "Deployment"), Ok(None));
    assert_eq!(of("serving.knative.dev/v1", "Service"), Ok(None));
    let old = of("discovery.k8s.io/v1beta1", "EndpointSlice");
    assert_eq!(old, Err("apiVersion: \"discovery.k8s.io/v1beta1\" is not discovery.k8s.io/v1".into()));
}

#[test]
fn an_object_without_a_namespace_is_in_default_and_one_without_a_name_is_refused() {
    let metadata = Metadata { name: Some("web".into()), ..Metadata::default() };
    assert_eq!(key(Kind::Service, &metadata, &mut names()).unwrap().name, ObjectName::new("default", "web"));
    for kind in [Kind::Node, Kind::ServiceCidr] {
        let key = key(kind, &metadata, &mut names()).unwrap();
        assert_eq!(key.name, ObjectName::new("", "web"));
        assert_eq!(key.to_string(), format!("{kind} web"));
    }
    let error = key(Kind::Service, &Metadata::default(), &mut names()).unwrap_err();
    assert_eq!(error.to_string(), "metadata.name: missing");
}
