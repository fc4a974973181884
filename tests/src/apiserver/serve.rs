//! Connections: accepted while the server listens, each served by its own task, HTTP/1.1 or HTTP/2, with TLS or without.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::TcpListener as StdListener;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::access::Access;
use super::answer::answer;
use super::asked::Asked;
use super::faults::Faults;
use super::rights::Account;
use super::store::Store;
use super::tls::Authority;

/// The body of an answer: one document, or a stream of events.
pub(crate) type Body = UnsyncBoxBody<Bytes, Broken>;

/// A stream that was broken off, by the client or on purpose.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the stream was cut")]
pub(crate) struct Broken;

/// What every connection shares.
pub(crate) struct Shared {
    store: Arc<Mutex<Store>>,
    /// Tells watches that the store has moved on.
    pub(crate) revisions: watch::Sender<u64>,
    pub(crate) faults: watch::Sender<Faults>,
    /// How many closings of the listener have been carried out, and who waits for that.
    closed: (Mutex<u64>, Condvar),
    pub(crate) access: Arc<Access>,
    /// None without TLS.
    pub(crate) authority: Option<Arc<Authority>>,
    pub(crate) bookmark_interval: Duration,
    /// What was asked for, and how often.
    asked: Mutex<BTreeMap<Asked, usize>>,
    /// What ServiceAccounts asked for.
    asked_by: Mutex<BTreeSet<(Account, Asked)>>,
}

impl Shared {
    pub(crate) fn new(
        store: Store,
        access: Access,
        authority: Option<Arc<Authority>>,
        bookmarks: Duration,
    ) -> Self {
        Self {
            store: Arc::new(Mutex::new(store)),
            revisions: watch::Sender::new(0),
            faults: watch::Sender::new(Faults::default()),
            closed: (Mutex::new(0), Condvar::new()),
            access: Arc::new(access),
            authority,
            bookmark_interval: bookmarks,
            asked: Mutex::default(),
            asked_by: Mutex::default(),
        }
    }

    /// What ServiceAccounts asked for.
    pub(crate) fn asked_by(&self) -> MutexGuard<'_, BTreeSet<(Account, Asked)>> {
        self.asked_by.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was asked for, and how often.
    pub(crate) fn asked(&self) -> MutexGuard<'_, BTreeMap<Asked, usize>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same objects and rules behind another listener, in good health.
    pub(crate) fn replica(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            revisions: self.revisions.clone(),
            faults: watch::Sender::new(Faults::default()),
            closed: (Mutex::new(0), Condvar::new()),
            access: Arc::clone(&self.access),
            authority: self.authority.clone(),
            asked: Mutex::default(),
            asked_by: Mutex::default(),
            bookmark_interval: self.bookmark_interval,
        }
    }

    /// The store, to read.
    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        // A verb that panicked did so before its commit, which is one step: the store is whole.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks until no connection is left from before a closing.
    pub(crate) fn wait_until_closed(&self, closings: u64) {
        let carried_out = self.closed.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.closed.1.wait_while(carried_out, |it| *it < closings));
    }

    /// How many closings have been carried out.
    fn reported(&self) -> u64 {
        *self.closed.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets those go on who wait for this closing.
    pub(crate) fn report_closed(&self, closings: u64) {
        *self.closed.0.lock().unwrap_or_else(PoisonError::into_inner) = closings;
        self.closed.1.notify_all();
    }

    /// Lets `write` change the store, then wakes the watches.
    pub(crate) fn write<T>(&self, write: impl FnOnce(&mut Store) -> T) -> T {
        let mut store = self.store();
        let outcome = write(&mut store);
        let revision = store.revision();
        drop(store);
        self.revisions.send_if_modified(|last| std::mem::replace(last, revision) != revision);
        outcome
    }
}

/// Serves until the task is dropped.
pub(crate) async fn serve(shared: Arc<Shared>, listener: StdListener) -> std::io::Result<Infallible> {
    let mut faults = shared.faults.subscribe();
    let mut connections = JoinSet::new();
    loop {
        // A closing may come before this task has looked for the first time: there is nothing to close, and somebody
        // waits to hear so.
        let reported = shared.reported();
        let looked = faults.wait_for(|it| it.listening || it.closings != reported).await;
        let (listening, closings) =
            looked.map(|it| (it.listening, it.closings)).map_err(std::io::Error::other)?;
        if !listening {
            shared.report_closed(closings);
            continue;
        }
        // A new one each time: a socket that was shut down gives its waiters nothing but errors.
        let listener = TcpListener::from_std(listener.try_clone()?)?;
        tokio::select! {
            never = accept(&shared, &listener, &mut connections) => match never {},
            _ = faults.wait_for(|it| it.closings != closings) => {}
        }
        connections.shutdown().await;
        let closings = faults.borrow().closings;
        shared.report_closed(closings);
    }
}

async fn accept(shared: &Arc<Shared>, listener: &TcpListener, connections: &mut JoinSet<()>) -> Infallible {
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(connection(Arc::clone(shared), stream))),
                Err(error) => {
                    tracing::debug!(%error, "accept failed, as it does while the server refuses");
                    // The error may last until the switch is seen, and must not keep this thread from seeing it.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(shared: Arc<Shared>, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    match shared.authority.clone() {
        None => speak(shared, stream, false).await,
        Some(authority) => match authority.acceptor().accept(stream).into_fallible().await {
            Ok(stream) => {
                // One that does not count has ended the handshake.
                let has_certificate = stream.get_ref().1.peer_certificates().is_some();
                speak(shared, stream, has_certificate).await;
            }
            Err((error, stream)) => {
                tracing::debug!(%error, "TLS handshake failed");
                drain(stream).await;
            }
        },
    }
}

/// Reads what is on its way, so that the connection is not reset: the client shall hear why it ends.
async fn drain(mut stream: TcpStream) {
    let _ = stream.shutdown().await;
    let mut rest = [0; 4096];
    while let Ok(1..) = stream.read(&mut rest).await {}
}

async fn speak<S>(shared: Arc<Shared>, stream: S, has_certificate: bool)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(shared, request, has_certificate).await) }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "connection ended");
    }
}
