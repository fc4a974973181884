//! The data plane: subjects in turn, round by round.
//!
//! Every second round goes backwards, and each figure is compared with the others of its own round alone: what else the
//! machine does changes more between minutes than between neighbours.

use crate::Failure;
use crate::profile::Profile;
use crate::progress::Progress;
use crate::report::{Report, Row};
use crate::stats::{Bound, Spread, ratios};
use crate::subject::{Ruleset, Subject};

/// Connections of a subject before any is counted.
const WARM_UP: u32 = 100;
/// The group of the report.
const GROUP: &str = "data plane";

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
}

fn tell(courses: &[Course], report: &mut Report) {
    for course in courses {
        let what = format!("new connection: {}", course.subject.name);
        report.add(Row::spread(GROUP, &what, "µs of CPU", &course.connections));
    }
    for course in courses {
        let what = format!("bulk TCP: {}", course.subject.name);
        report.add(Row::spread(GROUP, &what, "Gbit a s of CPU", &course.bulk));
    }
    let [direct, one, many, laid_one, laid_many] = courses else { return };
    let pairs = [
        (many, one, Some(Bound::AtMost(1.05))),
        (one, laid_one, Some(Bound::AtMost(1.0))),
        (many, laid_many, Some(Bound::AtMost(1.0))),
        (one, direct, None),
        (many, direct, None),
    ];
    for (this, to, must) in pairs {
        report.add(ratio("new connection", (this, to), must, |course| &course.connections));
    }
    for this in [one, many] {
        report.add(ratio("bulk TCP", (this, direct), Some(Bound::AtLeast(0.95)), |course| &course.bulk));
    }
}

fn ratio(
    what: &str,
    (this, to): (&Course, &Course),
    must: Option<Bound>,
    of: impl Fn(&Course) -> &[f64],
) -> Row {
    let what = format!("{what}: {} / {}", this.subject.name, to.subject.name);
    let spread = Spread::of(&ratios(of(this), of(to))).unwrap_or(Spread::single(f64::NAN));
    Row { group: GROUP, what, unit: "×", spread, must }
}
