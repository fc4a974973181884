//! The cluster that the machine is in, as it is: connections to its Services, and to their endpoints directly.
//!
//! No lab: whoever serves the Services of this node serves these connections, and nothing of it is changed. Each connection is reset once it
//! stands, and no byte is sent. Invariant: a Service and one of its endpoints take turns, so that what else happens in the cluster
//! happens to both.

mod targets;

use crate::Failure;
use crate::figure::{Figure, Part};
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::report::Report;
use crate::stats::permille;
use rustix::net::sockopt;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};
pub use targets::Target;

/// A connection that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(2);
/// Connections of a round, at least: of fewer the slowest hundredth says nothing.
const ENOUGH: usize = 200;
/// Who is asked, in the report: the base of ratios, and what is compared with it.
const SUBJECTS: [&str; 2] = ["direct", "Services"];
/// What is told of each round, by the share of a thousand.
const SHARES: [(&str, usize); 3] = [("connect: p50", 500), ("connect: p90", 900), ("connect: p99", 990)];

/// What is measured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How the API server is reached; without it by the credentials of the pod.
    pub kubeconfig: Option<PathBuf>,
    /// Services at most.
    pub most: usize,
    /// Rounds over all of them.
    pub rounds: u32,
}

/// What was found of direct connections, and of those through Services.
#[derive(Debug, Default)]
struct Found {
    /// Microseconds, for each share and round.
    shares: [Vec<f64>; SHARES.len()],
    /// Connections that failed, for each round.
    failed: Vec<f64>,
}

/// Measures, and adds what was found.
///
/// # Errors
/// When the cluster does not tell its Services, none of them can be asked, or the run is interrupted.
pub fn measure(
    settings: &Settings,
    stop: &Interrupt,
    progress: &mut Progress,
    report: &mut Report,
) -> Result<(), Failure> {
    progress.step("read the cluster's Services", weight_of_reading())?;
    let targets = targets::read(settings.kubeconfig.as_deref(), settings.most)?;
    let mut found = [Found::default(), Found::default()];
    let ran = rounds((settings, &targets), stop, progress, &mut found);
    found.iter().zip(SUBJECTS).for_each(|(found, subject)| found.tell(subject, report));
    ran
}

/// The seconds that [`measure`] may take, for the time left.
pub fn weight(settings: &Settings) -> f64 {
    weight_of_reading() + f64::from(settings.rounds) * weight_of_round()
}

fn weight_of_reading() -> f64 {
    1.0
}

fn weight_of_round() -> f64 {
    0.3
}

fn rounds(
    (settings, targets): (&Settings, &[Target]),
    stop: &Interrupt,
    progress: &mut Progress,
    found: &mut [Found; 2],
) -> Result<(), Failure> {
    // The first one warms up.
    for number in 0..=settings.rounds {
        let what = format!("round {number} of {}, {} Services", settings.rounds, targets.len());
        progress.step(&what, weight_of_round())?;
        let times = round(targets, number, stop)?;
        if number > 0 {
            found.iter_mut().zip(times).for_each(|(found, times)| found.add(&times));
        }
    }
    Ok(())
}

/// Connects to every Service, and to its endpoints in turn, directly; every second time directly first.
fn round(targets: &[Target], number: u32, stop: &Interrupt) -> Result<[Vec<Option<f64>>; 2], Failure> {
    let mut times = [Vec::new(), Vec::new()];
    let turns = ENOUGH.div_ceil(targets.len());
    for turn in (usize::try_from(number)? * turns..).take(turns) {
        for target in targets {
            stop.check()?;
            let to = [target.endpoints[turn % target.endpoints.len()], target.service];
            let order = if turn % 2 == 0 { [0, 1] } else { [1, 0] };
            order.into_iter().for_each(|way| times[way].push(connect(to[way]).ok()));
        }
    }
    Ok(times)
}

/// Microseconds until the connection stands.
fn connect(to: SocketAddr) -> io::Result<f64> {
    let start = Instant::now();
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    let took = start.elapsed();
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    Ok(took.as_secs_f64() * 1e6)
}

impl Found {
    fn add(&mut self, times: &[Option<f64>]) {
        let stood: Vec<f64> = times.iter().copied().flatten().collect();
        for (values, (_, share)) in self.shares.iter_mut().zip(SHARES) {
            values.push(permille(&stood, share).unwrap_or(f64::NAN));
        }
        let failed = u32::try_from(times.len() - stood.len());
        self.failed.push(failed.map_or(f64::NAN, f64::from));
    }

    fn tell(&self, subject: &str, report: &mut Report) {
        let figure = |workload: &str| Figure::new(Part::DataPlane, workload, subject);
        if self.failed.is_empty() {
            return;
        }
        for (values, (workload, _)) in self.shares.iter().zip(SHARES) {
            report.add(figure(workload).less("µs", values));
        }
        report.add(figure("connections that failed").less("connections", &self.failed).distribution());
    }
}
