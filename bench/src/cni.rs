//! The CNI plugin: what an ADD and a DEL take as whole processes, alone, side by side, and beside the reference plugins.
//!
//! | module | what it is |
//! |---|---|
//! | `plugin` | a configuration list and its plugins, run once and timed |
//! | `place` | a node with pods, on which that happens |
//! | `leases` | nodes on which many pods are already |
//!
//! Subjects take turns, every second round backwards, and a ratio compares figures of one round. What is timed is what a
//! runtime waits for: from fork to the end of the last process. Namespaces are made before and removed after.

mod leases;
mod place;
mod plugin;

use crate::Failure;
use crate::figure::{Figure, Part};
use crate::progress::Progress;
use crate::report::{Claim, Report};
use crate::stats::{Bound, permille};
use heddle_tests::process::program;
use place::Place;
use plugin::Chain;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// What ours and the reference plugins are called in the report.
const OURS: &str = "heddle-cni";
const REFERENCES: &str = "bridge + host-local";
/// Where distributions have the reference plugins.
const REFERENCE: &str = "/usr/lib/cni";
/// Asked for one family, as the reference plugins are.
const IPV4: &str = ", IPv4 alone";
/// Seconds that a round may take, for the time left.
const ROUND: f64 = 4.0;

/// What is measured, and how much.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Rounds over all subjects.
    pub rounds: u32,
    /// ADDs, each with its DEL, of one subject in one round.
    pub pods: u32,
    /// ADDs that start at once.
    pub burst: u32,
    /// How many leases there are already, for the subjects that differ in nothing else; the first is compared with.
    pub leases: Vec<u32>,
    /// Another list to measure beside ours, and the folders of its plugins.
    pub other: Option<(PathBuf, Vec<PathBuf>)>,
}

/// One chain on its node, with the medians of each round.
struct Course {
    name: String,
    /// What it is asked for beside the usual, as in `, IPv4`.
    asked: &'static str,
    place: Place,
    add: Vec<f64>,
    del: Vec<f64>,
    link: Vec<f64>,
}

impl Course {
    fn new(name: &str, asked: &'static str, chain: Chain) -> Result<Self, Failure> {
        let place = Place::new(chain)?;
        Ok(Self { name: name.to_owned(), asked, place, add: Vec::new(), del: Vec::new(), link: Vec::new() })
    }

    fn run(&mut self, pods: u32) -> Result<(), Failure> {
        let mut times: [Vec<f64>; 3] = Default::default();
        for _ in 0..pods {
            let (add, del) = self.place.add_and_del()?;
            // Next to each other: how long the kernel takes follows what else it does.
            let link = self.place.remove_link()?;
            [add, del, link].into_iter().zip(&mut times).for_each(|(time, times)| times.push(time));
        }
        let [add, del, link] = times.map(|times| permille(&times, 500));
        self.add.extend(add);
        self.del.extend(del);
        self.link.extend(link);
        Ok(())
    }
}

/// Measures everything and adds what was found.
///
/// # Errors
/// When a plugin is missing or fails, or the run is interrupted.
pub fn measure(settings: &Settings, progress: &mut Progress, report: &mut Report) -> Result<(), Failure> {
    let mut courses = courses(settings)?;
    let ran = run(&mut courses, settings, progress);
    tell(&courses, report);
    ran?;
    measure_crowds(&courses[0], settings, progress, report)
}

/// Lets all courses take turns.
fn run(courses: &mut [Course], settings: &Settings, progress: &mut Progress) -> Result<(), Failure> {
    for round in 0..settings.rounds {
        progress.step(&format!("plugins, round {} of {}", round + 1, settings.rounds), ROUND)?;
        if round % 2 == 0 {
            courses.iter_mut().try_for_each(|course| course.run(settings.pods))?;
        } else {
            courses.iter_mut().rev().try_for_each(|course| course.run(settings.pods))?;
        }
    }
    Ok(())
}

/// Measures what many pods do to each other, and the program itself.
fn measure_crowds(
    usual: &Course,
    settings: &Settings,
    progress: &mut Progress,
    report: &mut Report,
) -> Result<(), Failure> {
    progress.step("many at once", ROUND)?;
    let bursts = (0..settings.rounds).map(|_| place::burst(&ours(&json!({}))?, settings.burst));
    let bursts = bursts.collect::<Result<Vec<_>, _>>()?;
    let what = format!("{} ADDs at once: all", settings.burst);
    hold(figure(&what).less("s", &bursts), Some(0.3), report);
    progress.step("many leases", ROUND)?;
    leases::measure(settings, report)?;
    let binary = fs::metadata(program("heddle-cni")?)?.len();
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    hold(figure("size of the program").less("MB", &[megabytes(binary)]), Some(2.0), report);
    let peak = usual.place.peak()?;
    hold(figure("memory at its peak").less("MB", &[peak]), Some(8.0), report);
    Ok(())
}

/// The seconds that [`measure`] may take, for the time left.
pub fn weight(settings: &Settings) -> f64 {
    ROUND * f64::from(settings.rounds + 2)
}

fn courses(settings: &Settings) -> Result<Vec<Course>, Failure> {
    let port = json!([{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp"}]);
    let mut courses = vec![
        Course::new(OURS, "", ours(&json!({}))?)?,
        Course::new(OURS, ", one host port", ours(&json!({"runtimeConfig": {"portMappings": port}}))?)?,
        Course::new(OURS, IPV4, ours(&json!({"ipam": {"type": "heddle", "subnet": "10.244.0.0/16"}}))?)?,
    ];
    if Path::new(REFERENCE).join("bridge").is_file() {
        courses.push(Course::new(REFERENCES, IPV4, reference())?);
    }
    if let Some((list, path)) = &settings.other {
        let list: Value = serde_json::from_slice(&fs::read(list)?)?;
        courses.push(Course::new(
            list["name"].as_str().unwrap_or("other"),
            IPV4,
            Chain::of_list(&list, path.clone())?,
        )?);
    }
    Ok(courses)
}

/// Our plugin for both families, with these keys in the place of its own.
fn ours(extra: &Value) -> Result<Chain, Failure> {
    let program = program("heddle-cni")?;
    let mut config = json!({"type": "heddle-cni", "isDefaultGateway": true, "hairpinMode": true,
        "ipam": {"type": "heddle", "ranges": [[{"subnet": "10.244.0.0/16"}], [{"subnet": "fd00:244::/64"}]]}});
    if let (Some(config), Some(extra)) = (config.as_object_mut(), extra.as_object()) {
        config.extend(extra.clone());
    }
    let folder = program.parent().unwrap_or(Path::new("/")).to_owned();
    Ok(Chain::of_one(&config, vec![folder]))
}

/// The reference plugins, asked for the same. One family: with two they wait for addresses to settle.
fn reference() -> Chain {
    let config = json!({"type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "hairpinMode": true,
        "ipam": {"type": "host-local", "subnet": "10.244.0.0/16"}});
    Chain::of_one(&config, vec![REFERENCE.into()])
}

/// A figure of ours.
fn figure(workload: &str) -> Figure {
    Figure::new(Part::Plugin, workload, OURS)
}

/// Adds a figure, which must be no more than this.
fn hold(figure: Figure, most: Option<f64>, report: &mut Report) {
    let what = format!("{}: {}", figure.workload, figure.subject);
    let must = most.map(Bound::AtMost);
    report.claim(must.and_then(|must| Claim::new(&what, &figure.unit, &figure.values, must)));
    report.add(figure);
}

fn tell(courses: &[Course], report: &mut Report) {
    // Interrupted before each had a turn, there is nothing to compare.
    if courses.iter().any(|course| course.add.is_empty()) {
        return;
    }
    let of = |course: &Course, command: &str, values: &[f64]| {
        let workload = format!("{command}{}", course.asked);
        Figure::new(Part::Plugin, &workload, &course.name).less("ms", values)
    };
    for (at, course) in courses.iter().enumerate() {
        let most = [Some(3.0), Some(4.0)].get(at).copied().flatten();
        hold(of(course, "ADD", &course.add), most, report);
    }
    courses.iter().for_each(|course| report.add(of(course, "DEL", &course.del)));
    let beyond: Vec<_> = courses[0].del.iter().zip(&courses[0].link).map(|(del, link)| del - link).collect();
    let removal = Figure::new(Part::Plugin, "DEL: the removal of a link in it", "the kernel");
    report.add(removal.less("ms", &courses[0].link));
    hold(figure("DEL: beyond the removal of a link").less("ms", &beyond), Some(2.0), report);
    let alone = of(&courses[2], "ADD", &courses[2].add);
    for other in &courses[3..] {
        report.claim(Claim::ratio(&alone, &of(other, "ADD", &other.add), Bound::AtMost(0.2)));
    }
}
