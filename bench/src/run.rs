//! The data plane: subjects in turn, round by round.
//!
//! | module | what it is |
//! |---|---|
//! | [`plan`] | what is measured of whom, and how much |
//! | [`claims`] | what must hold of it |
//!
//! Every second round goes backwards, and each figure is compared with the others of its own round alone: what else the machine does
//! changes more between minutes than between neighbours. Invariant: what was measured until a run ends, for whatever reason, is in the
//! report.

pub mod claims;
pub mod plan;

pub use plan::Plan;

use crate::Failure;
use crate::cluster::Size;
use crate::figure::{Better, Figure, Part};
use crate::interrupt::Interrupt;
use crate::load::ceiling::Alone;
use crate::progress::Progress;
use crate::regress;
use crate::report::{Environment, Report};
use crate::subjects::{Stage, Subject};
use crate::workloads::{Effort, Way, Workload};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;

/// What the load generator is called in the report.
const GENERATOR: &str = "loopback";

/// Files that all hosts together may have open: a socket for each endpoint that is asked by UDP, and namespaces.
const FILES: u64 = 1 << 16;

/// Between which hosts load goes.
enum Hosts {
    /// One host alone.
    Alone(Box<Alone>),
    /// Those of a subject.
    Stage(Box<Stage>),
}

/// One subject, or the load generator alone, with what was measured, by workload and round.
struct Course {
    subject: Option<Subject>,
    size: Option<Size>,
    hosts: usize,
    series: Vec<Series>,
}

/// The figures of one workload.
struct Series {
    workload: Workload,
    /// For each figure of a round, the values of all rounds.
    values: Vec<Vec<f64>>,
}

/// Measures everything that the plan has, and adds it.
///
/// # Errors
/// When hosts cannot be built, an answer is missing, or the run is interrupted.
pub fn measure(
    plan: &Plan,
    stop: &Interrupt,
    progress: &mut Progress,
    report: &mut Report,
) -> Result<(), Failure> {
    make_room()?;
    let (hosts, mut courses) = build(plan, stop, progress)?;
    let ran = run(plan, (&hosts, &mut courses), stop, progress);
    tell(plan, &courses, report);
    ran
}

/// The seconds that [`measure`] may take, for the time left.
pub fn weight(plan: &Plan) -> f64 {
    let loads: f64 = plan.hosts().map(|(subject, size)| plan::loading(subject, size)).sum();
    loads + (f64::from(plan.rounds) + 0.25) * plan.round_weight()
}

/// Raises the limit of open files as far as it may be.
fn make_room() -> io::Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let [current, most] = [current, maximum].map(|limit| limit.map(|files| files.max(FILES)));
    let enough = Rlimit { current, maximum: most };
    let raised = setrlimit(Resource::Nofile, enough);
    // Not every root may go beyond what it was given.
    Ok(raised.or_else(|_| setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }))?)
}

fn build(
    plan: &Plan,
    stop: &Interrupt,
    progress: &mut Progress,
) -> Result<(Vec<Hosts>, Vec<Course>), Failure> {
    let mut hosts = vec![Hosts::Alone(Box::new(Alone::build()?))];
    let mut courses = vec![Course::new(None, None, 0, plan)];
    for (subject, size) in plan.hosts() {
        let what = size.map_or(String::new(), |size| format!(", {size}"));
        progress.step(&format!("load {}{what}", subject.name()), plan::loading(subject, size))?;
        let stage = Stage::build(subject, size, plan.setting(subject), stop)?;
        let measured = plan.subjects.iter().filter(|it| it.host() == subject);
        courses.extend(measured.map(|it| Course::new(Some(*it), size, hosts.len(), plan)));
        hosts.push(Hosts::Stage(Box::new(stage)));
    }
    Ok((hosts, courses))
}

fn run(
    plan: &Plan,
    (hosts, courses): (&[Hosts], &mut [Course]),
    stop: &Interrupt,
    progress: &mut Progress,
) -> Result<(), Failure> {
    progress.step("warm up", plan.round_weight() / 4.0)?;
    for course in courses.iter_mut() {
        let warm = course.run(&hosts[course.hosts], (&plan.effort.warm_up(), 0), stop);
        course.forget();
        warm?;
    }
    let most = plan.rounds + plan.more.rounds;
    for round in 0..most {
        let mut what = format!("round {} of {}", round + 1, plan.rounds);
        if round >= plan.rounds {
            if is_clear(plan, courses) {
                break;
            }
            what = format!("round {} of at most {most}, since some of it is noisy", round + 1);
            progress.grow(plan.round_weight());
        }
        progress.step(&what, plan.round_weight())?;
        let mut order: Vec<&mut Course> = courses.iter_mut().collect();
        if round % 2 == 1 {
            order.reverse();
        }
        order
            .into_iter()
            .try_for_each(|course| course.run(&hosts[course.hosts], (&plan.effort, round + 1), stop))?;
    }
    Ok(())
}

impl Hosts {
    fn way(&self, subject: Option<Subject>) -> Way<'_> {
        match self {
            Self::Alone(alone) => {
                let Alone { namespace, server, to } = &**alone;
                Way { client: namespace, outside: namespace, server, hot: *to, node_port: *to, size: None }
            }
            Self::Stage(stage) => stage.way(subject.unwrap_or(Subject::Direct)),
        }
    }

    fn forget(&self) -> Result<(), Failure> {
        match self {
            Self::Alone(_) => Ok(()),
            Self::Stage(stage) => stage.forget(),
        }
    }
}

impl Course {
    fn new(subject: Option<Subject>, size: Option<Size>, hosts: usize, plan: &Plan) -> Self {
        let series = |workload: &Workload| Series {
            workload: *workload,
            values: vec![Vec::new(); workload.kinds().len()],
        };
        // Without Services, and without an outside, all new connections are alike.
        let has = |workload: &&Workload| subject.is_some() || !workload.is_variant();
        Self { subject, size, hosts, series: plan.workloads.iter().filter(has).map(series).collect() }
    }

    fn run(
        &mut self,
        hosts: &Hosts,
        (effort, round): (&Effort, u32),
        stop: &Interrupt,
    ) -> Result<(), Failure> {
        hosts.forget()?;
        let way = hosts.way(self.subject);
        for series in &mut self.series {
            stop.check()?;
            let failed = |cause| format!("{:?} of {}: {cause}", series.workload, name(self.subject));
            let found = series.workload.run(&way, effort, round).map_err(failed)?;
            series.values.iter_mut().zip(found).for_each(|(values, value)| values.push(value));
        }
        Ok(())
    }

    /// What was measured so far does not count.
    fn forget(&mut self) {
        self.series.iter_mut().flat_map(|series| &mut series.values).for_each(Vec::clear);
    }

    /// The figures of one workload.
    fn figures(&self, workload: Workload) -> impl Iterator<Item = Figure> {
        let part = if self.subject.is_some() { Part::DataPlane } else { Part::Generator };
        let series = self.series.iter().filter(move |series| series.workload == workload);
        series.flat_map(move |series| series.workload.kinds().iter().zip(&series.values)).map(
            move |((what, unit, better), values)| {
                let figure = Figure::new(part, what, name(self.subject));
                let figure = Figure { size: self.size, ..figure };
                if *better == Better::Less { figure.less(unit, values) } else { figure.more(unit, values) }
            },
        )
    }
}

fn name(subject: Option<Subject>) -> &'static str {
    subject.map_or(GENERATOR, Subject::name)
}

/// Whether a comparison with another report will not need more rounds of this one.
fn is_clear(plan: &Plan, courses: &[Course]) -> bool {
    let mut report = Report::new("", Environment::default());
    add_figures(plan, courses, &mut report);
    regress::is_clear(&report, plan.more.until)
}

/// Of a subject that is not as it should be, nothing is claimed.
fn tell(plan: &Plan, courses: &[Course], report: &mut Report) {
    add_figures(plan, courses, report);
    let slowed = plan.subjects.iter().map(|subject| (subject.name().to_owned(), plan.handicap(*subject)));
    report.handicaps = slowed.filter(|(_, rules)| *rules > 0).collect();
    if report.handicaps.is_empty() {
        claims::add(report);
    }
}

/// Figures of one thing stand together; those that were not measured even once are none.
fn add_figures(plan: &Plan, courses: &[Course], report: &mut Report) {
    let (alone, subjects) = courses.split_at(1);
    for courses in [alone, subjects] {
        for workload in &plan.workloads {
            let by_course: Vec<Vec<Figure>> =
                courses.iter().map(|course| course.figures(*workload).collect()).collect();
            let kinds = 0..workload.kinds().len();
            let figures = kinds.flat_map(|kind| by_course.iter().filter_map(move |of| of.get(kind)));
            figures.filter(|figure| !figure.values.is_empty()).for_each(|figure| report.add(figure.clone()));
        }
    }
}
