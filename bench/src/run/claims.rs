//! What must hold of the data plane: the numbers that heddle holds itself to, as ratios of figures of one run.
//!
//! A claim about figures that a run does not have is not made.

use crate::cluster::Size;
use crate::figure::{Figure, Part};
use crate::report::{Claim, Report};
use crate::stats::Bound;
use crate::subjects::Subject;
use crate::workloads::names;
use Bound::{AtLeast, AtMost};
use std::collections::BTreeSet;

/// Services beside which a few are compared.
const MANY: u32 = 10_000;
/// The same, at sockets.
const MOST: u32 = 30_000;

/// Adds all that can be made of what the report has.
pub fn add(report: &mut Report) {
    let sizes: BTreeSet<Size> = report.figures.iter().filter_map(|figure| figure.size).collect();
    let made: Vec<Claim> = {
        let found = Found { figures: &report.figures };
        let at = |size| found.packets(size).into_iter().chain(found.sockets(size));
        let each: Vec<Option<Claim>> = sizes.iter().flat_map(|size| at(*size)).collect();
        // ebpf:6.3: at sockets, and at 30 000 Services what few cost.
        let growth = [(Subject::Nft, MANY), (Subject::Ebpf, MOST)].map(|growth| found.growth(growth, &sizes));
        each.into_iter().chain(growth).flatten().collect()
    };
    report.claims.extend(made);
}

/// The figures of a report.
struct Found<'a> {
    figures: &'a [Figure],
}

impl<'a> Found<'a> {
    /// What was found of a subject, at this size or, of one without Services, at none.
    fn of(&self, workload: &str, subject: Subject, size: Size) -> Option<&'a Figure> {
        let size = subject.has_services().then_some(size);
        self.figures.iter().find(|figure| {
            figure.part == Part::DataPlane
                && figure.workload == workload
                && figure.subject == subject.name()
                && figure.size == size
        })
    }

    /// What one figure is by another of the same workload and size.
    fn ratio(
        &self,
        workload: &str,
        (this, to): (Subject, Subject),
        size: Size,
        must: Bound,
    ) -> Option<Claim> {
        Claim::ratio(self.of(workload, this, size)?, self.of(workload, to, size)?, must)
    }

    /// The same, of rates.
    fn rates(&self, workload: &str, (this, to): (Subject, Subject), size: Size, least: f64) -> Option<Claim> {
        Claim::rates(self.of(workload, this, size)?, self.of(workload, to, size)?, AtLeast(least))
    }

    fn packets(&self, size: Size) -> Vec<Option<Claim>> {
        use Subject::{Direct, IptablesLayout, KubeProxyNftables, Nft, NftablesLayout};
        vec![
            self.ratio(names::CONNECTIONS, (Nft, NftablesLayout), size, AtMost(1.0)),
            self.ratio(names::CONNECTIONS, (Nft, KubeProxyNftables), size, AtMost(1.0)),
            self.ratio(names::CONNECTIONS, (Nft, IptablesLayout), size, AtMost(1.0)),
            self.rates(names::BULK, (Nft, Direct), size, 0.95),
        ]
    }

    fn sockets(&self, size: Size) -> Vec<Option<Claim>> {
        use Subject::{Direct, DirectBesideEbpf, Ebpf, EbpfTracked, Nft};
        let beside = (EbpfTracked, DirectBesideEbpf);
        vec![
            self.ratio(names::CONNECTIONS, (Ebpf, Direct), size, AtMost(1.05)),
            self.rates(names::CONNECTIONS, beside, size, 0.98),
            self.rates(names::CONNECTIONS, (Ebpf, Direct), size, 0.96),
            self.ratio(names::CONNECTIONS, (Ebpf, Nft), size, AtMost(1.0)),
            self.rates(names::BULK, beside, size, 0.99),
            self.rates(names::BULK, (Ebpf, Direct), size, 0.99),
            self.rates(names::UDP, beside, size, 0.97),
            self.rates(names::UDP, (Ebpf, Direct), size, 0.97),
            self.more(beside, size),
        ]
    }

    /// What a call of `connect` takes beyond one without a Service.
    fn more(&self, (this, to): (Subject, Subject), size: Size) -> Option<Claim> {
        let (this, to) = (self.of(names::CALL, this, size)?, self.of(names::CALL, to, size)?);
        let more: Vec<f64> = this.values.iter().zip(&to.values).map(|(this, to)| this - to).collect();
        let what = format!("{}: {} more than {}", this.workload, this.who(), to.who());
        Claim::new(&what, &this.unit, &more, AtMost(1.0))
    }

    /// What so many Services cost by what the fewest cost.
    fn growth(&self, (subject, many): (Subject, u32), sizes: &BTreeSet<Size>) -> Option<Claim> {
        let many = sizes.iter().find(|size| size.services == many)?;
        let few =
            sizes.iter().find(|size| size.endpoints == many.endpoints && size.services < many.services)?;
        let of = |size: &Size| self.of(names::CONNECTIONS, subject, *size);
        Claim::ratio(of(many)?, of(few)?, AtMost(1.05))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Environment;

    #[test]
    fn a_claim_is_made_of_figures_of_one_size_and_only_of_those_that_are_there() {
        let mut report = Report::new("test", Environment::default());
        let figure = |subject: Subject| Figure::new(Part::DataPlane, names::CONNECTIONS, subject.name());
        report.add(figure(Subject::Direct).less("µs of CPU", &[10.0]));
        for services in [1, MANY] {
            let sized = figure(Subject::Nft).at(Size::from((services, 3)));
            report.add(sized.less("µs of CPU", &[12.0]));
        }
        report.add(figure(Subject::Ebpf).at(Size::from((1, 3))).less("µs of CPU", &[11.0]));
        add(&mut report);
        let made: Vec<&str> = report.claims.iter().map(|claim| claim.what.as_str()).collect();
        assert_eq!(
            made,
            [
                "new connections, one Service: heddle ebpf, 1 × 3 / direct",
                "rate of new connections, one Service: heddle ebpf, 1 × 3 / direct",
                "new connections, one Service: heddle ebpf, 1 × 3 / heddle nft, 1 × 3",
                "new connections, one Service: heddle nft, 10000 × 3 / heddle nft, 1 × 3"
            ]
        );
    }

    /// ebpf:6.3: its measure, that sockets cost no more than packets and packets no more than iptables, with few Services and with
    /// 30 000, and that few and many differ by a twentieth at most.
    #[test]
    fn sockets_packets_and_iptables_are_put_in_order_at_each_size_and_sockets_must_not_mind_it() {
        let mut report = Report::new("test", Environment::default());
        for services in [1, MOST] {
            for (subject, cost) in
                [(Subject::Ebpf, 10.0), (Subject::Nft, 12.0), (Subject::IptablesLayout, 13.0)]
            {
                let figure = Figure::new(Part::DataPlane, names::CONNECTIONS, subject.name());
                report.add(figure.at(Size::from((services, 3))).less("µs of CPU", &[cost]));
            }
        }
        add(&mut report);
        let is_of = |claim: &&Claim, end: &str| claim.what.ends_with(end);
        for services in [1, MOST] {
            for end in [
                format!("heddle ebpf, {services} × 3 / heddle nft, {services} × 3"),
                format!("heddle nft, {services} × 3 / kube-proxy iptables layout, {services} × 3"),
            ] {
                let claim = report.claims.iter().find(|claim| is_of(claim, &end));
                assert_eq!(claim.map(|claim| claim.must), Some(AtMost(1.0)), "{end}");
            }
        }
        let growth = "heddle ebpf, 30000 × 3 / heddle ebpf, 1 × 3";
        let claim = report.claims.iter().find(|claim| is_of(claim, growth));
        assert_eq!(claim.map(|claim| claim.must), Some(AtMost(1.05)));
    }
}
