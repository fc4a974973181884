//! The task that posts.
//!
//! It finds an object's uid by a list with a field selector, since `system:node-proxier` may list Services and not get one; so
//! nothing is kept of the thousands of objects that have no problem.

use super::pace::{Next, Pace};
use super::write::{self, Reporter, Written};
use crate::backoff::Backoff;
use crate::convert::Key;
use crate::model::{Kind, ObjectName};
use crate::problems::{News, Problem, Subject};
use crate::requests::{self, Failure, Patch};
use jiff::Timestamp;
use kube::Client;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

/// Says on the Node that we start, then problems on their objects, until all who could tell of them are gone.
pub async fn post(client: Client, by: Reporter, mut news: UnboundedReceiver<News>) {
    let mut poster = Poster::new(client, by);
    loop {
        let wait = poster.step().await;
        let heard = async {
            match wait {
                Some(wait) => timeout(wait, news.recv()).await.ok(),
                None => Some(news.recv().await),
            }
        };
        match heard.await {
            None => {}
            Some(None) => return,
            Some(Some(first)) => {
                poster.take(first);
                while let Ok(more) = news.try_recv() {
                    poster.take(more);
                }
                // Changes come in crowds; what is over by then need not be said.
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Says on the Node why the process does not start, as far as the API server takes it within ten seconds.
pub async fn post_failure(client: Client, by: Reporter, reason: &str, note: &str) {
    let poster = Poster::new(client, by);
    let event = write::not_started(&poster.node_key(), (reason, note), (&poster.by, Timestamp::now()));
    if let Err(failure) = poster.create(&event).await {
        warn!("an Event is not posted: {failure}");
    }
}

struct Poster {
    client: Client,
    by: Reporter,
    pace: Pace,
    /// When we started, until it is said.
    starting: Option<Timestamp>,
    backoff: Backoff,
    start: Instant,
}

/// What has become of an Event.
enum Outcome {
    Said,
    /// There is nothing to say it of, or the server wants none such.
    Pointless,
}

#[derive(Deserialize)]
struct Found {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    /// Of any shape: the object may be in question because of its own.
    #[serde(default)]
    metadata: Value,
}

impl Poster {
    fn new(client: Client, by: Reporter) -> Self {
        Self {
            client,
            by,
            pace: Pace::new(),
            starting: Some(Timestamp::now()),
            backoff: Backoff::default(),
            start: Instant::now(),
        }
    }

    fn node_key(&self) -> Key {
        Key { kind: Kind::Node, name: ObjectName::new("", &self.by.node) }
    }

    fn take(&mut self, news: News) {
        self.pace.take(news, self.start.elapsed());
    }

    /// Says one thing, if something is to be said, and returns how long to wait for news before the next.
    async fn step(&mut self) -> Option<Duration> {
        if let Some(at) = self.starting {
            let event = write::starting(&self.node_key(), (&self.by, at));
            let outcome = self.create(&event).await;
            return self.settle(outcome, |poster, _| poster.starting = None);
        }
        match self.pace.next(self.start.elapsed()) {
            Next::Nothing => None,
            Next::Wait(wait) => Some(wait),
            Next::Say(problem, times) => {
                let outcome = self.say(&problem, times).await;
                self.settle(outcome, |poster, outcome| match outcome {
                    Outcome::Said => poster.pace.is_said(&problem, poster.start.elapsed()),
                    Outcome::Pointless => poster.pace.gives_up(&problem),
                })
            }
        }
    }

    /// A failure is said once, and what failed is tried again.
    fn settle(
        &mut self,
        outcome: Result<Outcome, Failure>,
        done: impl FnOnce(&mut Self, Outcome),
    ) -> Option<Duration> {
        match outcome {
            Ok(outcome) => {
                if self.backoff.is_failing() {
                    info!("Events are posted again");
                }
                done(self, outcome);
                self.backoff.after(false);
                Some(Duration::ZERO)
            }
            Err(failure) if self.backoff.is_failing() => {
                debug!(dropped = self.pace.dropped, "Events are still not posted: {failure}");
                self.backoff.after(true)
            }
            Err(failure) => {
                warn!("Events are not posted for now: {failure}");
                self.backoff.after(true)
            }
        }
    }

    async fn say(&self, problem: &Problem, times: u32) -> Result<Outcome, Failure> {
        let Subject::Object(key) = &problem.subject else { return Ok(Outcome::Pointless) };
        let Some(uid) = self.find_uid(key).await? else { return Ok(Outcome::Pointless) };
        let now = Timestamp::now();
        let event = write::problem(problem, key, &uid, (&self.by, now));
        if times > 1 {
            let path = format!("{}/{}", events(&event.namespace), event.name);
            match requests::patch(&self.client, &path, Patch::Merge, &write::again(times, now)).await {
                // Events are forgotten after an hour.
                Err(Failure::Refused(status)) if status.code == 404 => {}
                outcome => return outcome.map(|IgnoredAny| Outcome::Said),
            }
        }
        self.create(&event).await
    }

    async fn create(&self, event: &Written) -> Result<Outcome, Failure> {
        match requests::create(&self.client, &events(&event.namespace), &event.object).await {
            Ok(IgnoredAny) => Ok(Outcome::Said),
            // By another node, or by us before a restart.
            Err(Failure::Refused(status)) if status.code == 409 => Ok(Outcome::Said),
            Err(Failure::Refused(status)) if matches!(status.code, 400 | 404 | 422) => {
                debug!(name = event.name, "the API server does not take an Event: {}", status.message);
                Ok(Outcome::Pointless)
            }
            Err(failure) => Err(failure),
        }
    }

    async fn find_uid(&self, key: &Key) -> Result<Option<String>, Failure> {
        let (base, _, plural) = write::resource(key.kind);
        let namespace = &key.name.namespace;
        if !is_plain(namespace) || !is_plain(&key.name.name) {
            return Ok(None);
        }
        let within = if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
        let path = format!("{base}{within}/{plural}?fieldSelector=metadata.name%3D{}", key.name.name);
        let found: Found = requests::get(&self.client, &path).await?;
        Ok(found.items.first().and_then(|item| Some(item.metadata["uid"].as_str()?.to_owned())))
    }
}

/// Whether it can stand in a path as it is, as every name can that an API server checked.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:_".contains(&byte))
}

fn events(namespace: &str) -> String {
    format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events")
}
