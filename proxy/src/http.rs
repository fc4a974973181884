//! A small HTTP/1 server: a listener, and a function from the request to the response.
//!
//! Not a web framework: no routes, no state, no TLS. Whoever may connect may be slow, wrong or many, so a connection is for
//! one request and has little time, and of too many connections the oldest is cut: a client that is honest has its answer
//! within milliseconds, and is never the oldest for long. Invariant: when the future of [`serve`] is dropped, its port
//! and its connections are closed.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time;
use tracing::{debug, warn};

pub use hyper::StatusCode;
/// What is asked for: method, path and headers, and the [`Body`] among the extensions.
pub type Request = Parts;
/// What came with the request.
#[derive(Clone, Debug, Default)]
pub struct Body(pub Bytes);
/// What is answered.
pub type Response = hyper::Response<Full<Bytes>>;

/// From accepting a connection to the last byte of the answer.
const TIME: Duration = Duration::from_secs(30);
/// Request line and headers; hyper's own minimum is half of it.
const LONGEST_HEAD: usize = 16 * 1024;
/// More of a body than anybody has a reason to send.
const LONGEST_BODY: usize = 64 * 1024;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 128;
/// Between two tries to listen, as kube-proxy has it.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);
/// Between two tries to accept, when the process has too many files open.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// A response with this body, which no browser is to take for anything but what it says it is.
pub fn response(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// There is nothing at this path; Go's words.
pub fn not_found() -> Response {
    response(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n")
}

/// Which connections a listener on the address `[::]` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// Those of IPv4 too.
    Both,
    /// Those of IPv6 alone.
    Own,
}

/// Listens on a TCP address; the listener is this thread's runtime's.
///
/// # Errors
/// When the address is in use or not the host's, or the process has too many files open.
pub fn listen(address: SocketAddr, families: Families) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if address.is_ipv6() {
        rustix::net::sockopt::set_ipv6_v6only(&socket, families == Families::Own)?;
    }
    // A port whose last connections are not forgotten yet is free.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Listens on a TCP address as soon as that can be; says once why it cannot.
pub async fn listen_at_last(what: &str, address: SocketAddr) -> TcpListener {
    let mut said = None;
    loop {
        match listen(address, Families::Both) {
            Ok(listener) => return listener,
            Err(error) => {
                if said.replace(error.kind()) != Some(error.kind()) {
                    warn!("{what} cannot listen on {address}, trying again: {error}");
                }
            }
        }
        time::sleep(LISTEN_AGAIN).await;
    }
}

/// The connections of one or many listeners.
#[derive(Clone, Debug)]
pub struct Connections {
    most: usize,
    /// Oldest first; some of them have ended.
    open: Arc<Mutex<VecDeque<AbortHandle>>>,
}

impl Connections {
    /// So many at one time.
    pub fn at_most(most: usize) -> Self {
        Self { most, open: Arc::default() }
    }

    fn admit(&self, connection: AbortHandle) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|other| !other.is_finished());
        if open.len() >= self.most
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        open.push_back(connection);
    }
}

/// Answers every request with `answer`. Never ends.
pub async fn serve<F>(listener: TcpListener, connections: Connections, answer: F)
where
    F: Fn(&Request) -> Response + Clone + Send + Sync + 'static,
{
    let mut own = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                while own.try_join_next().is_some() {}
                connections.admit(own.spawn(converse(stream, answer.clone())));
            }
            Err(error) => {
                debug!("accept a connection: {error}");
                time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// One request and its answer.
async fn converse<F>(stream: impl AsyncRead + AsyncWrite + Unpin, answer: F)
where
    F: Fn(&Request) -> Response,
{
    let service = service_fn(async |request: hyper::Request<Incoming>| {
        let (mut head, body) = request.into_parts();
        // A connection that is closed with something unread is reset, and the answer may be lost.
        let read = Limited::new(body, LONGEST_BODY).collect().await;
        Ok::<_, Infallible>(match read {
            Ok(body) => {
                head.extensions.insert(Body(body.to_bytes()));
                answer(&head)
            }
            Err(_) => response(StatusCode::PAYLOAD_TOO_LARGE, "text/plain; charset=utf-8", ""),
        })
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .half_close(true)
        .max_buf_size(LONGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    match time::timeout(TIME, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!("a client's request: {error}"),
        Err(_) => debug!("a client took longer than {TIME:?}"),
    }
}

#[cfg(test)]
mod tests;
