//! Nodes on which many pods are already, as far as the plugin's leases say.

use super::place::Place;
use super::{Settings, figure, ours};
use crate::Failure;
use crate::figure::Figure;
use crate::report::{Claim, Report};
use crate::stats::{Bound, permille, ratios};
use heddle_cni::ipam::{Ask, Owner};
use heddle_cni::ranges::{RangeSet, Written};
use heddle_cni::store::{Store, boot_id};
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// Measures an ADD for each number of leases, in turn, and compares with the first number.
pub(super) fn measure(settings: &Settings, report: &mut Report) -> Result<(), Failure> {
    let mut places = Vec::new();
    for count in &settings.leases {
        let place = Place::new(ours(&json!({}))?)?;
        fill(place.folder(), *count)?;
        places.push((*count, place, Vec::new()));
    }
    for round in 0..settings.rounds {
        let order: Vec<usize> =
            if round % 2 == 0 { (0..places.len()).collect() } else { (0..places.len()).rev().collect() };
        for at in order {
            let (_, place, medians) = &mut places[at];
            let adds = (0..settings.pods)
                .map(|_| Ok(place.add_and_del()?.0))
                .collect::<Result<Vec<_>, Failure>>()?;
            medians.extend(permille(&adds, 500));
        }
    }
    let figure = |(count, _, medians): &(u32, Place, Vec<f64>)| {
        figure(&format!("ADD beside {count} leases")).less("ms", medians)
    };
    let figures: Vec<_> = places.iter().map(figure).collect();
    if let Some((few, more)) = figures.split_first() {
        more.iter().for_each(|many| report.claim(claim(many, few)));
    }
    figures.into_iter().for_each(|figure| report.add(figure));
    Ok(())
}

fn claim(many: &Figure, few: &Figure) -> Option<Claim> {
    let what = format!("{} / {}", many.workload, few.workload);
    Claim::new(&what, "×", &ratios(&many.values, &few.values), Bound::AtMost(1.2))
}

/// Writes leases of both ranges as that many ADDs do.
fn fill(folder: &Path, count: u32) -> Result<(), Failure> {
    let written = |subnet: &str| vec![Written { subnet: Some(subnet.to_owned()), ..Written::default() }];
    let sets = RangeSet::read_all(&[written("10.244.0.0/16"), written("fd00:244::/64")])?;
    let mut store = Store::open(folder, "bench", &boot_id()?)?;
    let ask = Ask { sets: &sets, wanted: &[], cooldown: Duration::ZERO, avoid: &[] };
    for number in 0..count {
        let owner = Owner { container: format!("standing-{number}"), ifname: "eth0".to_owned() };
        store.grant(&owner, &ask)?;
    }
    Ok(())
}
