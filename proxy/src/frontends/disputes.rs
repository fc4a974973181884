//! Claims that do not hold, and why.

use super::{Claim, Frontend, Reach};
use crate::model::ObjectName;
use std::collections::BTreeMap;
use std::ops::Range;

/// A claim that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contested {
    /// What is claimed.
    pub frontend: Frontend,
    /// The Service that does not have it.
    pub loser: ObjectName,
}

/// Why a claim does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispute {
    /// The Service that has the frontend.
    pub owner: ObjectName,
    /// The field in which the loser claims it.
    pub reach: Reach,
}

/// The claims at these places that do not hold. The first holds.
pub(super) fn losers(
    frontend: &Frontend,
    claims: &[Claim],
    places: Range<usize>,
) -> BTreeMap<Contested, Dispute> {
    let Some(owner) = claims.first() else { return BTreeMap::new() };
    let touched = claims.get(places.start.max(1)..places.end.min(claims.len())).unwrap_or_default();
    let lost = touched.iter().map(|claim| {
        let contested = Contested { frontend: *frontend, loser: claim.by.service.clone() };
        (contested, Dispute { owner: owner.by.service.clone(), reach: claim.backends.reach })
    });
    lost.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::Delta;
    use crate::frontends::{Frontends, Place};
    use crate::model::{Change, Model, Protocol, Service, ServicePort};
    use proptest::prelude::*;

    /// A Service that claims these external IPs, made so many seconds after the first.
    fn service(ips: &[u8], age: i64) -> Service {
        let port = ServicePort { name: "".into(), protocol: Protocol::Tcp, port: 80, node_port: None };
        Service {
            cluster_ips: vec![[10, 96, 0, 1].into()],
            external_ips: ips.iter().map(|last| [192, 0, 2, *last].into()).collect(),
            ports: vec![port],
            created: jiff::Timestamp::from_second(age).ok(),
            ..Service::default()
        }
    }

    fn apply(frontends: &mut Frontends, model: &mut Model, change: Change) -> Delta<Contested, Dispute> {
        model.apply(change);
        let dirty = model.take_dirty();
        frontends.update(model, &dirty, |_| ());
        frontends.take_disputes()
    }

    fn name(name: &str) -> ObjectName {
        ObjectName::new("shop", name)
    }

    #[test]
    fn a_dispute_begins_with_the_second_claim_and_ends_with_the_first() {
        let (mut frontends, mut model) = (Frontends::new("node"), Model::default());
        let mut apply = |change| apply(&mut frontends, &mut model, change);
        assert!(
            apply(Change::ServiceApplied(
                name("a"),
                Service { cluster_ips: vec![[10, 96, 0, 2].into()], ..service(&[1], 1) }.into()
            ))
            .is_empty()
        );
        let began = apply(Change::ServiceApplied(name("b"), service(&[1], 2).into()));
        let place = Place::Address([192, 0, 2, 1].into());
        let contested =
            Contested { frontend: Frontend { place, protocol: Protocol::Tcp, port: 80 }, loser: name("b") };
        let dispute = Dispute { owner: name("a"), reach: Reach::ExternalIp };
        let edits: Vec<_> = began.iter().collect();
        assert_eq!(edits.len(), 1);
        assert_eq!((edits[0].0, edits[0].1.new.as_ref()), (&contested, Some(&dispute)));
        let ended = apply(Change::ServiceGone(name("a")));
        assert!(ended.iter().map(|(key, edit)| (key, &edit.old, &edit.new)).eq([(
            &contested,
            &Some(dispute),
            &None
        )]));
    }

    fn change() -> impl Strategy<Value = Change> {
        let who = || prop::sample::select(vec!["a", "b", "c", "d"]);
        let ips = prop::sample::subsequence(vec![1, 2, 3], 0..=3);
        prop_oneof![
            3 => (who(), ips, 0..3_i64).prop_map(|(who, ips, age)| Change::ServiceApplied(name(who), service(&ips, age).into())),
            1 => who().prop_map(|who| Change::ServiceGone(name(who))),
        ]
    }

    proptest! {
        /// What is told of as it changes adds up to what a walk over all frontends finds.
        #[test]
        fn the_disputes_add_up_to_the_conflicts(changes in prop::collection::vec(change(), 0..24)) {
            let (mut frontends, mut model) = (Frontends::new("node"), Model::default());
            let mut open = BTreeMap::new();
            for change in changes {
                for (contested, edit) in apply(&mut frontends, &mut model, change).iter() {
                    let old = match edit.new.clone() {
                        Some(dispute) => open.insert(contested.clone(), dispute),
                        None => open.remove(contested),
                    };
                    prop_assert_eq!(&old, &edit.old);
                }
                let mut told: Vec<_> = open.iter().map(|(c, d)| (c.frontend, d.owner.clone(), c.loser.clone())).collect();
                let mut found: Vec<_> = frontends.conflicts().map(|(f, a, b)| (*f, a.clone(), b.clone())).collect();
                told.sort();
                found.sort();
                prop_assert_eq!(told, found);
            }
        }
    }
}
