//! The data plane: subjects in turn, round by round.
//!
//! Every second round goes backwards, and each figure is compared with the others of its own round alone: what else the
//! machine does changes more between minutes than between neighbours.

use crate::Failure;
use crate::figure::{Figure, Part};
use crate::profile::Profile;
use crate::progress::Progress;
use crate::report::{Claim, Report};
use crate::stats::Bound;
use crate::subject::{Ruleset, Subject};

/// Connections of a subject before any is counted.
const WARM_UP: u32 = 100;

/// One subject with what was measured, by round.
struct Course {
    subject: Subject,
    connections: Vec<f64>,
    bulk: Vec<f64>,
}

/// Measures all subjects and adds what was found.
///
/// # Errors
/// When a subject cannot be built, or connections fail.
pub fn measure(profile: &Profile, progress: &mut Progress, report: &mut Report) -> Result<(), Failure> {
    let mut courses = Vec::new();
    for (ruleset, weight) in subjects(profile) {
        progress.step(&format!("load {ruleset:?}"), weight);
        let subject = Subject::build(ruleset)?;
        subject.connections(WARM_UP.min(profile.connections))?;
        courses.push(Course { subject, connections: Vec::new(), bulk: Vec::new() });
    }
    for round in 0..profile.rounds {
        progress.step(&format!("round {} of {}", round + 1, profile.rounds), round_weight(profile));
        if round % 2 == 0 {
            courses.iter_mut().try_for_each(|course| course.run(profile))?;
        } else {
            courses.iter_mut().rev().try_for_each(|course| course.run(profile))?;
        }
    }
    tell(&courses, report);
    Ok(())
}

/// The seconds that [`measure`] may take, for the time left.
pub fn weight(profile: &Profile) -> f64 {
    let loading: f64 = subjects(profile).iter().map(|(_, weight)| weight).sum();
    loading + f64::from(profile.rounds) * round_weight(profile)
}

fn round_weight(profile: &Profile) -> f64 {
    f64::from(profile.connections) / 1000.0
}

/// The subjects, with the seconds that they take to build; none where nothing is asked of them.
fn subjects(profile: &Profile) -> Vec<(Ruleset, f64)> {
    if profile.rounds == 0 {
        return Vec::new();
    }
    let thousands = f64::from(profile.many_laid_out) / 1000.0;
    vec![
        (Ruleset::Direct, 0.5),
        (Ruleset::Heddle(1), 0.5),
        (Ruleset::Heddle(profile.many), 2.0),
        (Ruleset::Layout(1), 0.5),
        (Ruleset::Layout(profile.many_laid_out), 0.5 + 0.6 * thousands * thousands),
    ]
}

impl Course {
    fn run(&mut self, profile: &Profile) -> Result<(), Failure> {
        self.connections.push(self.subject.connections(profile.connections)?);
        self.bulk.push(self.subject.bulk(profile.bulk)?);
        Ok(())
    }

    fn figures(&self) -> [Figure; 2] {
        let figure = |workload| Figure {
            size: self.subject.size(),
            ..Figure::new(Part::DataPlane, workload, self.subject.name())
        };
        [
            figure("new connection").less("µs of CPU", &self.connections),
            figure("bulk TCP").more("Gbit a s of CPU", &self.bulk),
        ]
    }
}

fn tell(courses: &[Course], report: &mut Report) {
    let (connections, bulk): (Vec<_>, Vec<_>) =
        courses.iter().map(|course| <(Figure, Figure)>::from(course.figures())).unzip();
    if let [_, one, many, laid_one, laid_many] = connections.as_slice() {
        for (this, to, most) in [(many, one, 1.05), (one, laid_one, 1.0), (many, laid_many, 1.0)] {
            report.claim(Claim::ratio(this, to, Bound::AtMost(most)));
        }
    }
    if let [direct, one, many, ..] = bulk.as_slice() {
        [one, many].iter().for_each(|this| report.claim(Claim::ratio(this, direct, Bound::AtLeast(0.95))));
    }
    connections.into_iter().chain(bulk).for_each(|figure| report.add(figure));
}
