//! The API servers as one: a request goes to the server that answered last, and to the next when that one is lost.
//!
//! Not a balancer: one server has all of our requests as long as it answers. What a watch has seen is kept above, in kube's
//! watcher, so the next server goes on where the last one broke off. Invariant: a request ends within the limits times
//! the number of servers.

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use http::{Method, Request, StatusCode, Uri};
use http_body_util::BodyExt;
use kube::client::Body;
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};
use tower::{BoxError, Service, ServiceExt};
use tracing::{debug, info, warn};

use super::connect::{Answer, ConnectError, Door, Limits, open};
use super::credentials::{Access, Credentials};
use super::pace::Pace;
use super::reasons;
use crate::metrics::RequestMeter;
use crate::metrics::requests::Sent;

/// No server took a request: each with its reason.
#[derive(Debug, Error)]
#[error("{}", .0.join("; "))]
pub(super) struct Unreachable(Vec<String>);

/// All servers. Clones are the same.
#[derive(Clone)]
pub(super) struct Servers(Arc<Inner>);

struct Inner {
    credentials: Credentials,
    limits: Limits,
    state: Mutex<State>,
    pace: Mutex<Pace>,
    meter: Mutex<RequestMeter>,
    /// People were told that the only address is a Service of ours.
    is_warned: AtomicBool,
}

struct State {
    access: Access,
    doors: Vec<Door>,
    /// The server that is asked first.
    current: usize,
    /// The server that answered last.
    answered: Option<usize>,
    /// Why the files could not be read again, as people were told.
    unread: Option<String>,
}

impl Servers {
    /// Reads the credentials for the first time.
    pub(super) async fn new(credentials: Credentials, limits: Limits) -> Result<Self, ConnectError> {
        let access = credentials.read().await?;
        let doors = open(&access, limits)?;
        let state = State { access, doors, current: 0, answered: None, unread: None };
        Ok(Self(Arc::new(Inner {
            credentials,
            limits,
            state: Mutex::new(state),
            pace: Mutex::default(),
            meter: Mutex::default(),
            is_warned: AtomicBool::new(false),
        })))
    }

    /// The same, which also count what they are asked.
    pub(super) fn with_meter(self, meter: RequestMeter) -> Self {
        *self.0.meter() = meter;
        self
    }
}

impl Service<Request<Body>> for Servers {
    type Response = Answer;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.send(request).await })
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn meter(&self) -> MutexGuard<'_, RequestMeter> {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(self: &Arc<Self>, request: Request<Body>) -> Result<Answer, BoxError> {
        let watched = watched_path(request.uri());
        if let Some(path) = &watched {
            self.keep_pace(path).await;
        }
        self.refresh().await;
        let (doors, first) = {
            let state = self.state();
            (state.doors.clone(), state.current)
        };
        let (parts, body) = request.into_parts();
        // What writes may have been done by a server that then fell silent; who sent it decides.
        let tries = if parts.method == Method::GET { doors.len() } else { 1 };
        let mut body = Some(body);
        let mut reasons = Vec::new();
        for tried in 1..=tries {
            let at = (first + tried - 1) % doors.len();
            let copy = Request::from_parts(parts.clone(), body.take().unwrap_or_else(Body::empty));
            match self.ask(at, doors[at].clone(), copy).await {
                Ok(answer) if is_lost(answer.status()) => {
                    self.leave(at);
                    if tried == tries {
                        return Ok(answer);
                    }
                    reasons.push(format!("{}: {}", self.name(at), answer.status()));
                }
                Ok(answer) => {
                    self.answers(at, watched, answer.status(), &reasons);
                    return Ok(self.observed(answer, at));
                }
                Err(why) => reasons.push(why),
            }
        }
        self.hint();
        Err(Unreachable(reasons).into())
    }

    /// Asks one server, and leaves it when it does not answer.
    async fn ask(&self, at: usize, door: Door, request: Request<Body>) -> Result<Answer, String> {
        let (method, is_watch) = (request.method().clone(), watched_path(request.uri()).is_some());
        let start = Instant::now();
        let answered = timeout(self.limits.answer, door.oneshot(request)).await;
        let code = answered.as_ref().ok().and_then(|it| it.as_ref().ok()).map(|it| it.status().as_u16());
        let took = (!is_watch).then(|| start.elapsed());
        self.meter().take(Sent { host: &self.host(at), method: method.as_str(), code, took });
        let why = match answered {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => reasons::of(&*error),
            Err(_) => format!("no answer within {:?}", self.limits.answer),
        };
        self.leave(at);
        Err(format!("{}: {why}", self.name(at)))
    }

    fn host(&self, server: usize) -> String {
        let state = self.state();
        let authority = state.access.servers.get(server).and_then(Uri::authority);
        authority.map(ToString::to_string).unwrap_or_default()
    }

    fn name(&self, server: usize) -> String {
        self.state().access.servers.get(server).map(ToString::to_string).unwrap_or_default()
    }

    /// Waits where the server ended the last watch of a path too soon, and leaves that server.
    async fn keep_pace(&self, path: &str) {
        let random = RandomState::new().hash_one(path);
        let wait = self.pace().wait(path, Instant::now(), random);
        if let Some((wait, server)) = wait {
            debug!(path, ?wait, "the API server ended a watch that had just begun");
            self.leave(server);
            sleep(wait).await;
        }
    }

    /// Reads the credentials again. What cannot be read, as in the middle of a rotation, stays as it was.
    async fn refresh(&self) {
        let opened = match self.credentials.read().await {
            Ok(access) if access.is_same(&self.state().access) => Ok(None),
            Ok(access) => open(&access, self.limits).map(|doors| Some((access, doors))),
            Err(error) => Err(error),
        };
        let mut state = self.state();
        match opened {
            Ok(new) => {
                state.unread = None;
                if let Some((access, doors)) = new {
                    info!("the credentials for the API server have changed");
                    state.current = if access.servers == state.access.servers { state.current } else { 0 };
                    (state.access, state.doors) = (access, doors);
                }
            }
            Err(error) => {
                let why = reasons::of(&error);
                if state.unread.as_ref() != Some(&why) {
                    warn!("{why}; the last good credentials stay in use");
                    state.unread = Some(why);
                }
            }
        }
    }

    /// The next request goes to the next server, if nobody has seen to that already.
    fn leave(&self, server: usize) {
        let mut state = self.state();
        if state.current == server {
            state.current = (server + 1) % state.doors.len();
        }
    }

    /// Takes note of an answer. `reasons` are those of the servers that were asked before.
    fn answers(&self, at: usize, watched: Option<String>, status: StatusCode, reasons: &[String]) {
        if let Some(path) = watched.filter(|_| status.is_success()) {
            self.pace().begins(&path, at, Instant::now());
        }
        let last = self.state().answered.replace(at);
        if last != Some(at) && self.state().doors.len() > 1 {
            let lost = if reasons.is_empty() { String::new() } else { format!("; {}", reasons.join("; ")) };
            info!("the API server {} answers{lost}", self.name(at));
        }
    }

    /// An answer that breaks off is a server lost, too.
    fn observed(self: &Arc<Self>, answer: Answer, at: usize) -> Answer {
        let inner = Arc::clone(self);
        answer.map(|body| {
            let broken = move |error: BoxError| -> BoxError {
                inner.leave(at);
                Unreachable(vec![format!("{}: {}", inner.name(at), reasons::of(&*error))]).into()
            };
            body.map_err(broken).boxed_unsync()
        })
    }

    /// Says once what to do when the only way to the servers is one that we would have to make first.
    fn hint(&self) {
        let state = self.state();
        if state.access.is_service && !self.is_warned.swap(true, Ordering::Relaxed) {
            warn!(
                "{} is a Service, which heddle-proxy itself has to set up first: give the API servers' own addresses with \
                 --master=https://HOST:6443 (several are separated by commas) or with a kubeconfig; it is tried on",
                state.access.servers[0]
            );
        }
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Servers").field(&self.0.state().access.servers).finish()
    }
}

/// The server itself is in trouble, another one may not be. 429 is no reason to burden another.
fn is_lost(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// The path of a watch.
fn watched_path(uri: &Uri) -> Option<String> {
    let is_watch =
        uri.query().unwrap_or_default().split('&').any(|pair| ["watch=true", "watch=1"].contains(&pair));
    is_watch.then(|| uri.path().to_owned())
}

#[cfg(test)]
mod tests;
