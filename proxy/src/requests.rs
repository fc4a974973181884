//! Single requests to the API server, beside the watches.
//!
//! Not tried again here. Invariant: a request ends within ten seconds, with what was answered or why nothing was.

use http::request::Builder;
use http::{Method, Request};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;

pub use kube::Client;

/// A server that has not answered by then is away.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a patch is to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patch {
    /// RFC 7386: lists are replaced.
    Merge,
    /// Kubernetes' own: members of a list are known by their key.
    Strategic,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The server said no.
    #[error("the API server refuses it: {}", _0.message)]
    Refused(Box<kube::core::Status>),
    /// It is away, or said what cannot be read.
    #[error("{_0}")]
    Other(String),
}

impl Failure {
    /// Whether a right is missing.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Refused(status) if status.code == 403)
    }
}

/// Reads what is at a path.
///
/// # Errors
/// When it is not answered, or refused.
pub async fn get<T: DeserializeOwned>(client: &Client, path: &str) -> Result<T, Failure> {
    send(client, Request::get(path), Vec::new()).await
}

/// Makes an object in the collection at a path.
///
/// # Errors
/// When it is not answered, or refused.
pub async fn create<T: DeserializeOwned>(client: &Client, path: &str, object: &Value) -> Result<T, Failure> {
    let request = Request::post(path).header("content-type", "application/json");
    send(client, request, object.to_string().into_bytes()).await
}

/// Changes the object at a path.
///
/// # Errors
/// When it is not answered, or refused.
pub async fn patch<T: DeserializeOwned>(
    client: &Client,
    path: &str,
    how: Patch,
    change: &Value,
) -> Result<T, Failure> {
    let kind = match how {
        Patch::Merge => "application/merge-patch+json",
        Patch::Strategic => "application/strategic-merge-patch+json",
    };
    let request = Request::builder().method(Method::PATCH).uri(path).header("content-type", kind);
    send(client, request, change.to_string().into_bytes()).await
}

async fn send<T: DeserializeOwned>(client: &Client, request: Builder, body: Vec<u8>) -> Result<T, Failure> {
    let request = request.body(body).map_err(|error| Failure::Other(error.to_string()))?;
    match timeout(PATIENCE, client.request(request)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(Failure::Refused(status)),
        Ok(Err(error)) => Err(Failure::Other(error.to_string())),
        Err(_) => Err(Failure::Other(format!("no answer in {PATIENCE:?}"))),
    }
}
