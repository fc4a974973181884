//! One call after the other over a Unix socket: HTTP/2, a length before the message, the status behind it.

use super::Failure;
use super::message::{Fields, Message};
use crate::patience::PATIENCE;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{HeaderMap, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::fmt;
use std::path::Path;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

/// A connection.
pub(super) struct Client {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    pub(super) fn connect(socket: &Path) -> Result<Self, Failure> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let sender = runtime.block_on(async {
            let stream = TokioIo::new(UnixStream::connect(socket).await?);
            let (sender, connection) = handshake(TokioExecutor::new(), stream).await?;
            tokio::spawn(connection);
            Ok::<_, Failure>(sender)
        })?;
        Ok(Self { runtime, sender })
    }

    /// Calls a method, by its path, and gives its answer.
    pub(super) fn call(&mut self, method: &str, request: &Message) -> Result<Fields, Failure> {
        let request = Request::post(format!("http://localhost{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(framed(request.encoded())?))?;
        let sender = &mut self.sender;
        let (head, body) = self.runtime.block_on(async {
            let exchange = async {
                sender.ready().await?;
                let (head, body) = sender.send_request(request).await?.into_parts();
                Ok::<_, hyper::Error>((head, body.collect().await?))
            };
            tokio::time::timeout(PATIENCE, exchange).await
        })??;
        let trailers = body.trailers().cloned().unwrap_or(head.headers);
        succeeded(&trailers).map_err(|message| format!("{method}: {message}"))?;
        let bytes = body.to_bytes();
        let message = bytes.get(5..).unwrap_or_default();
        Fields::read(message).ok_or_else(|| format!("{method}: {bytes:?} is no message").into())
    }
}

fn framed(message: &[u8]) -> Result<Bytes, Failure> {
    let length = u32::try_from(message.len())?.to_be_bytes();
    Ok([&[0], &length[..], message].concat().into())
}

fn succeeded(trailers: &HeaderMap) -> Result<(), String> {
    let text =
        |name: &str| trailers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    match text("grpc-status").as_deref() {
        Some("0") => Ok(()),
        status => Err(format!("status {status:?}: {}", text("grpc-message").unwrap_or_default())),
    }
}
