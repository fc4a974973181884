//! What must hold of the control plane: the numbers that heddle-proxy holds itself to, at the sizes that they are about.

use crate::cluster::Size;
use crate::control::tell::{CHANGED, FILLED, LED, MAPS, MEMORY, MEMORY_LATER, WRITTEN};
use crate::figure::{Figure, Part};
use crate::report::{Claim, Report};
use crate::stats::{Bound, permille};
use crate::subjects::Subject;

/// The numbers: of whom, at how many Services with how many endpoints, at most how much. A name stands for all workloads that begin with it.
const AT_MOST: [(&str, Subject, (u32, u32), f64); 13] = [
    (WRITTEN, Subject::Nft, (10_000, 3), 0.3),
    (WRITTEN, Subject::Nft, (100_000, 3), 5.0),
    (CHANGED, Subject::Nft, (10_000, 3), 1.0),
    (CHANGED, Subject::Nft, (100_000, 3), 5.0),
    (LED, Subject::Ebpf, (10_000, 3), 0.2),
    (CHANGED, Subject::Ebpf, (10_000, 3), 0.2),
    (MEMORY, Subject::Nft, (10_000, 3), 40.0),
    (MEMORY, Subject::Nft, (30_000, 4), 80.0),
    (MEMORY_LATER, Subject::Nft, (10_000, 3), 40.0),
    (MEMORY_LATER, Subject::Nft, (30_000, 4), 80.0),
    (MEMORY, Subject::Ebpf, (30_000, 4), 80.0),
    (FILLED, Subject::Ebpf, (30_000, 4), 0.3),
    (MAPS, Subject::Ebpf, (30_000, 4), 20.0),
];

/// Adds all that can be made of what the report has.
pub fn add(report: &mut Report) {
    let figures = report.figures.iter().filter(|figure| figure.part == Part::ControlPlane);
    let made: Vec<Claim> = figures.flat_map(claims).collect();
    report.claims.extend(made);
}

fn claims(figure: &Figure) -> impl Iterator<Item = Claim> {
    let is_about = |(what, subject, size, _): &&(&str, Subject, (u32, u32), f64)| {
        figure.workload.starts_with(what)
            && figure.subject == subject.name()
            && figure.size == Some(Size::from(*size))
    };
    AT_MOST.iter().filter(is_about).filter_map(|(.., limit)| {
        // Of single changes almost all must keep to it, not their median.
        let (share, found) = if figure.rounds {
            ("", figure.values.clone())
        } else {
            (", 99th percentile", permille(&figure.values, 990).into_iter().collect())
        };
        let what = format!("{}{share}: {}", figure.workload, figure.who());
        Claim::new(&what, &figure.unit, &found, Bound::AtMost(*limit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Environment;

    #[test]
    fn of_changes_the_99th_percentile_counts_and_other_sizes_and_subjects_do_not() {
        let mut report = Report::new("test", Environment::default());
        let figure = |subject: Subject, size: (u32, u32)| {
            Figure::new(Part::ControlPlane, CHANGED, subject.name()).at(Size::from(size))
        };
        report.add(figure(Subject::Nft, (10_000, 3)).less("ms", &[0.1, 0.2, 3.0]).distribution());
        report.add(figure(Subject::Nft, (1, 3)).less("ms", &[9.0]).distribution());
        report.add(figure(Subject::KubeProxyNftables, (10_000, 3)).less("ms", &[9.0]).distribution());
        let memory = Figure::new(Part::ControlPlane, "memory after the start, from a folder", "heddle nft");
        report.add(memory.at(Size::from((10_000, 3))).less("MB", &[30.0]));
        add(&mut report);
        let made: Vec<(&str, f64)> =
            report.claims.iter().map(|claim| (claim.what.as_str(), claim.spread.median)).collect();
        assert_eq!(
            made,
            [
                ("one endpoint: event to kernel committed, 99th percentile: heddle nft, 10000 × 3", 3.0),
                ("memory after the start, from a folder: heddle nft, 10000 × 3", 30.0),
            ]
        );
    }
}
