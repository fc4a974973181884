//! The health checks of Services: one server for each listener that is wanted.
//!
//! Invariant: what closes is closed before anything opens, so that a port can go from one Service to another. What cannot be
//! opened is a problem of its Service, and is tried again.

use super::{CONNECTIONS, limit};
use crate::convert::Key as ObjectKey;
use crate::health::checks::{Changes, Check, Key};
use crate::health::listeners::{self, Addresses, LinkAddress, Listener};
use crate::health::{Pulse, answer};
use crate::http::{self, Connections, Families};
use crate::model::Kind;
use crate::nft::settings::Settings;
use crate::problems::{self, Problem, Reason, Subject};
use crate::status::{Report, Reports};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tokio::time;
use tracing::info;

/// Between two tries to open what could not be opened.
const AGAIN: Duration = Duration::from_secs(5);

/// The servers, and what they are to be.
#[derive(Debug)]
pub(super) struct Services {
    settings: Settings,
    pulse: Pulse,
    reports: Reports,
    connections: Connections,
    /// How many listeners there may be.
    most: usize,
    checks: BTreeMap<Key, Check>,
    addresses: Addresses,
    /// How many local endpoints each check has, for its servers to read.
    counts: BTreeMap<Key, Arc<AtomicUsize>>,
    open: BTreeMap<Listener, JoinHandle<()>>,
    /// Why the others that are wanted are not open.
    failed: BTreeSet<Problem>,
}

/// Why a listener is not open.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] io::Error),
    /// There would be no files left for the rest of the process.
    #[error("{open} others are open, and the process may open no more files (RLIMIT_NOFILE)")]
    Files { open: usize },
}

impl Services {
    /// No servers yet.
    pub(super) fn new(settings: Settings, pulse: Pulse, reports: Reports) -> Self {
        Self {
            settings,
            pulse,
            reports,
            connections: Connections::at_most(CONNECTIONS),
            most: limit::listeners(),
            checks: BTreeMap::new(),
            addresses: Addresses::default(),
            counts: BTreeMap::new(),
            open: BTreeMap::new(),
            failed: BTreeSet::new(),
        }
    }

    /// Follows what the agent hands over and the node's addresses, until both are gone.
    pub(super) async fn run(
        mut self,
        mut changes: UnboundedReceiver<Changes>,
        mut addresses: UnboundedReceiver<BTreeSet<LinkAddress>>,
    ) {
        loop {
            tokio::select! {
                Some(change) = changes.recv() => self.take(change),
                Some(now) = addresses.recv() => self.addresses.of_links = now,
                () = time::sleep(AGAIN), if !self.failed.is_empty() => {}
                else => return,
            }
            while let Ok(change) = changes.try_recv() {
                self.take(change);
            }
            self.sync().await;
        }
    }

    fn take(&mut self, changes: Changes) {
        self.addresses.of_object = changes.node_addresses;
        for (key, check) in changes.checks {
            match check {
                Some(check) => {
                    let count = self.counts.entry(key.clone()).or_default();
                    count.store(check.local, Ordering::Relaxed);
                    self.checks.insert(key, check);
                }
                None => {
                    self.checks.remove(&key);
                }
            }
        }
    }

    /// Closes and opens what is different.
    async fn sync(&mut self) {
        let wanted = listeners::wanted(&self.checks, &self.settings, &self.addresses);
        let closed: Vec<_> = self.open.extract_if(.., |listener, _| !wanted.contains(listener)).collect();
        for (listener, server) in closed {
            server.abort();
            // The port is free when the task is gone, not when it is told to go.
            let _ = server.await;
            info!(address = %listener.address, service = %listener.service, "closed a health check");
        }
        self.counts.retain(|key, _| self.checks.contains_key(key));
        let mut failed = BTreeSet::new();
        for listener in wanted {
            if self.open.contains_key(&listener) {
                continue;
            }
            match self.start(&listener) {
                Ok(server) => {
                    info!(address = %listener.address, service = %listener.service, "opened a health check");
                    self.open.insert(listener, server);
                }
                Err(error) => drop(failed.insert(problem(&listener, &error))),
            }
        }
        for news in problems::between(&self.failed, &failed) {
            self.reports.tell(Report::Problem(news));
        }
        self.failed = failed;
    }

    fn start(&self, listener: &Listener) -> Result<JoinHandle<()>, OpenError> {
        if self.open.len() >= self.most {
            return Err(OpenError::Files { open: self.open.len() });
        }
        let socket = http::listen(listener.address, Families::Own)?;
        let (pulse, service) = (self.pulse.clone(), listener.service.clone());
        let count = self.counts.get(&listener.check()).cloned().unwrap_or_default();
        let answer = move |_: &http::Request| {
            answer::check(&service, count.load(Ordering::Relaxed), pulse.report().is_healthy())
        };
        Ok(tokio::spawn(http::serve(socket, self.connections.clone(), answer)))
    }
}

fn problem(listener: &Listener, error: &OpenError) -> Problem {
    let text = format!(
        "spec.healthCheckNodePort: this node cannot listen on {}: {error}; load balancers there see the Service as dead, \
         and it is tried again",
        listener.address,
    );
    let key = ObjectKey { kind: Kind::Service, name: listener.service.clone() };
    Problem { subject: Subject::Object(key), reason: Reason::FAILED_TO_START_SERVICE_HEALTHCHECK, text }
}
