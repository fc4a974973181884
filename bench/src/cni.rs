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
use crate::progress::Progress;
use crate::report::{Report, Row};
use crate::stats::{Bound, permille, ratios};
use heddle_tests::process::program;
use place::Place;
use plugin::Chain;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// The group of the report.
const GROUP: &str = "cni";
/// Where distributions have the reference plugins.
const REFERENCE: &str = "/usr/lib/cni";
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
    place: Place,
    add: Vec<f64>,
    del: Vec<f64>,
    link: Vec<f64>,
}

impl Course {
    fn new(name: &str, chain: Chain) -> Result<Self, Failure> {
        let place = Place::new(chain)?;
        Ok(Self { name: name.to_owned(), place, add: Vec::new(), del: Vec::new(), link: Vec::new() })
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
/// When a plugin is missing or fails.
pub fn measure(settings: &Settings, progress: &mut Progress, report: &mut Report) -> Result<(), Failure> {
    let mut courses = courses(settings)?;
    for round in 0..settings.rounds {
        progress.step(&format!("round {} of {}", round + 1, settings.rounds), ROUND);
        if round % 2 == 0 {
            courses.iter_mut().try_for_each(|course| course.run(settings.pods))?;
        } else {
            courses.iter_mut().rev().try_for_each(|course| course.run(settings.pods))?;
        }
    }
    tell(&courses, report);
    progress.step("many at once", ROUND);
    let bursts = (0..settings.rounds).map(|_| place::burst(&ours(&json!({}))?, settings.burst));
    let bursts = bursts.collect::<Result<Vec<_>, _>>()?;
    let what = format!("{} ADDs at once: all", settings.burst);
    report.add(Row::spread(GROUP, &what, "s", &bursts).must(Some(Bound::AtMost(0.3))));
    progress.step("many leases", ROUND);
    leases::measure(settings, report)?;
    let binary = fs::metadata(program("heddle-cni")?)?.len();
    let megabytes = |bytes: u64| Row::single(GROUP, "program", "MB", bytes as f64 / 1e6);
    report.add(megabytes(binary).must(Some(Bound::AtMost(2.0))));
    let peak = courses[0].place.peak()?;
    report.add(Row::single(GROUP, "memory at its peak", "MB", peak).must(Some(Bound::AtMost(8.0))));
    Ok(())
}

/// The seconds that [`measure`] may take, for the time left.
pub fn weight(settings: &Settings) -> f64 {
    ROUND * f64::from(settings.rounds + 2)
}

fn courses(settings: &Settings) -> Result<Vec<Course>, Failure> {
    let port = json!([{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp"}]);
    let mut courses = vec![
        Course::new("heddle-cni", ours(&json!({}))?)?,
        Course::new("heddle-cni, one host port", ours(&json!({"runtimeConfig": {"portMappings": port}}))?)?,
        Course::new(
            "heddle-cni, IPv4 alone",
            ours(&json!({"ipam": {"type": "heddle", "subnet": "10.244.0.0/16"}}))?,
        )?,
    ];
    if Path::new(REFERENCE).join("bridge").is_file() {
        courses.push(Course::new("bridge + host-local, IPv4 alone", reference())?);
    }
    if let Some((list, path)) = &settings.other {
        let list: Value = serde_json::from_slice(&fs::read(list)?)?;
        courses.push(Course::new(
            list["name"].as_str().unwrap_or("other"),
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

fn tell(courses: &[Course], report: &mut Report) {
    let mut tell = |what: &str, unit, values: &[f64], must: Option<f64>| {
        report.add(Row::spread(GROUP, what, unit, values).must(must.map(Bound::AtMost)));
    };
    let bounds = [Some(3.0), Some(4.0)];
    for (number, course) in courses.iter().enumerate() {
        tell(&format!("{}: ADD", course.name), "ms", &course.add, bounds.get(number).copied().flatten());
        tell(&format!("{}: DEL", course.name), "ms", &course.del, None);
    }
    let beyond: Vec<_> = courses[0].del.iter().zip(&courses[0].link).map(|(del, link)| del - link).collect();
    tell("the kernel's removal of a link", "ms", &courses[0].link, None);
    tell("heddle-cni: DEL beyond that", "ms", &beyond, Some(2.0));
    let alone = &courses[2];
    for other in &courses[3..] {
        tell(
            &format!("ADD: {} / {}", alone.name, other.name),
            "ratio",
            &ratios(&alone.add, &other.add),
            Some(0.2),
        );
        tell(
            &format!("DEL: {} / {}", alone.name, other.name),
            "ratio",
            &ratios(&alone.del, &other.del),
            None,
        );
    }
}
