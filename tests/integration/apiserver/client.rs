//! A client that sends exactly what a test says and hides nothing of what comes back.

use std::error::Error;
use std::net::TcpListener;
use std::time::Duration;

use bytes::Bytes;
use heddle_tests::apiserver::{ApiServer, Options};
use heddle_tests::patience::PATIENCE;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// A server without TLS, and a client of it.
pub(crate) struct Client {
    pub(crate) server: ApiServer,
    runtime: Runtime,
}

/// A running watch.
pub(crate) struct Watch<'a> {
    client: &'a Client,
    body: Incoming,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn start() -> Outcome<Self> {
        Self::start_with(Options { plain: true, ..Options::default() })
    }

    pub(crate) fn start_with(options: Options) -> Outcome<Self> {
        let server = ApiServer::start(TcpListener::bind("127.0.0.1:0")?, options)?;
        Ok(Self { server, runtime: Builder::new_current_thread().enable_all().build()? })
    }

    /// Sends a request of a content type and returns status and document.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &str,
    ) -> Outcome<(u16, Value)> {
        let request = Request::builder().method(method).uri(path).header("content-type", content_type);
        let (status, body) = self.exchange(request.body(Full::new(Bytes::from(body.to_owned())))?)?;
        Ok((status, serde_json::from_slice(&body)?))
    }

    pub(crate) fn get(&self, path: &str) -> Outcome<(u16, Value)> {
        self.send("GET", path, "", "")
    }

    pub(crate) fn post(&self, path: &str, object: &Value) -> Outcome<(u16, Value)> {
        self.send("POST", path, "application/json", &object.to_string())
    }

    pub(crate) fn put(&self, path: &str, object: &Value) -> Outcome<(u16, Value)> {
        self.send("PUT", path, "application/json", &object.to_string())
    }

    pub(crate) fn patch(&self, path: &str, kind: &str, patch: &Value) -> Outcome<(u16, Value)> {
        self.send("PATCH", path, &format!("application/{kind}"), &patch.to_string())
    }

    pub(crate) fn delete(&self, path: &str) -> Outcome<(u16, Value)> {
        self.send("DELETE", path, "", "")
    }

    /// Starts a watch, which the server must accept.
    pub(crate) fn watch(&self, path: &str) -> Outcome<Watch<'_>> {
        let request = Request::builder().uri(path).body(Full::default())?;
        let response = self.runtime.block_on(async { timeout(PATIENCE, self.open(request)).await })??;
        assert_eq!(response.status().as_u16(), 200, "{path}");
        Ok(Watch { client: self, body: response.into_body(), buffer: Vec::new() })
    }

    /// Whether a request is answered within a time.
    pub(crate) fn answers_within(&self, limit: Duration) -> bool {
        let ask = async {
            let request = Request::builder().uri("/api/v1/services").body(Full::default());
            match request {
                Ok(request) => self.open(request).await.is_ok(),
                Err(_) => false,
            }
        };
        self.runtime.block_on(async { timeout(limit, ask).await }).unwrap_or(false)
    }

    fn exchange(&self, request: Request<Full<Bytes>>) -> Outcome<(u16, Bytes)> {
        self.runtime.block_on(async {
            let response = timeout(PATIENCE, self.open(request)).await??;
            let status = response.status().as_u16();
            Ok((status, timeout(PATIENCE, response.into_body().collect()).await??.to_bytes()))
        })
    }

    async fn open(&self, request: Request<Full<Bytes>>) -> Outcome<Response<Incoming>> {
        let url = self.server.url();
        let stream = TcpStream::connect(url.trim_start_matches("http://")).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender.send_request(request).await?)
    }
}

impl Watch<'_> {
    /// The next event: its type and its object; None at the orderly end of the stream.
    pub(crate) fn next(&mut self) -> Outcome<Option<(String, Value)>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<_> = self.buffer.drain(..=end).collect();
                let mut event: Value = serde_json::from_slice(&line)?;
                let kind = event["type"].as_str().unwrap_or_default().to_owned();
                return Ok(Some((kind, event["object"].take())));
            }
            let frame = self.client.runtime.block_on(async { timeout(PATIENCE, self.body.frame()).await })?;
            match frame.transpose()? {
                Some(frame) => self.buffer.extend(frame.into_data().unwrap_or_default()),
                None => return Ok(None),
            }
        }
    }

    /// Whether the stream breaks now, which is neither an end nor silence.
    pub(crate) fn breaks_off(&mut self) -> bool {
        self.next().is_err_and(|error| !error.is::<Elapsed>())
    }

    /// The type and the object's name of the next event.
    pub(crate) fn next_named(&mut self) -> Outcome<(String, String)> {
        let (kind, object) = self.next()?.ok_or("the watch has ended")?;
        Ok((kind, object["metadata"]["name"].as_str().unwrap_or_default().to_owned()))
    }
}
