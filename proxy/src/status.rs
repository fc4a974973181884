//! What the parts of the process tell, kept in one place.
//!
//! Not on the way of a change: the parts only put a report into a channel, and never wait. Invariant: each problem is said
//! once when it begins and once when it ends.

use crate::metrics::ProblemMeter;
use crate::problems::{Account, News, Problem};
use jiff::Timestamp;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tracing::{info, warn};

/// Something that a part of the process tells.
#[derive(Debug)]
pub enum Report {
    /// Something is wrong with an object, or not any more.
    Problem(News),
    /// Somebody asks for the account of problems.
    Asked(oneshot::Sender<Vec<(Problem, Timestamp)>>),
}

/// Where a part of the process tells what it knows; nowhere, if nobody asks.
#[derive(Clone, Debug, Default)]
pub struct Reports(Option<UnboundedSender<Report>>);

impl Reports {
    /// Into this channel, to be taken in by [`keep`].
    pub fn new(to: UnboundedSender<Report>) -> Self {
        Self(Some(to))
    }

    /// Tells it. Never waits.
    pub fn tell(&self, report: Report) {
        if let Some(to) = &self.0 {
            // The other side is gone only when the process is about to be.
            let _ = to.send(report);
        }
    }
}

/// What is known of the process.
#[derive(Debug, Default)]
struct Known {
    problems: Account<Timestamp>,
}

impl Known {
    /// Takes a report in; returns what is new of problems.
    fn take(&mut self, report: Report, now: Timestamp) -> Option<News> {
        match report {
            Report::Asked(answer) => {
                let problems = self.problems.iter().map(|(problem, since)| (problem.clone(), *since));
                // Who asked may have given up.
                let _ = answer.send(problems.collect());
                None
            }
            Report::Problem(news) => {
                let is_new = self.problems.take(&news, now);
                is_new.then(|| say(&news))?;
                Some(news)
            }
        }
    }
}

fn say(news: &News) {
    match news {
        News::Began(problem) => warn!(reason = %problem.reason, "{problem}"),
        News::Ended(problem) => info!(reason = %problem.reason, "no more: {problem}"),
    }
}

/// Takes reports in until all who could tell are gone. What is new is counted and goes on to `events`.
pub async fn keep(
    mut reports: UnboundedReceiver<Report>,
    events: UnboundedSender<News>,
    meter: ProblemMeter,
) {
    let mut known = Known::default();
    while let Some(report) = reports.recv().await {
        if let Some(news) = known.take(report, Timestamp::now()) {
            meter.take(&news);
            // Without a cluster, nobody posts.
            let _ = events.send(news);
        }
    }
}
