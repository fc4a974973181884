//! The bearer token that a request must carry. Replicas share it, as a cluster's API servers do.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::ApiServer;
use super::refusal::Refusal;

/// The token that counts now; None lets everyone in.
#[derive(Debug, Default)]
pub(crate) struct Access(Mutex<Option<String>>);

impl Access {
    pub(crate) fn new(token: Option<String>) -> Self {
        Self(Mutex::new(token))
    }

    pub(crate) fn token(&self) -> MutexGuard<'_, Option<String>> {
        // It is changed in one step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses a request without the token.
    pub(crate) fn authenticate(&self, authorization: &str) -> Result<(), Refusal> {
        match &*self.token() {
            Some(token) if authorization.strip_prefix("Bearer ") != Some(token) => {
                Err(Refusal::unauthorized())
            }
            _ => Ok(()),
        }
    }
}

impl ApiServer {
    /// Gives the token that counts from now on; the one before is refused. Running watches go on. Without TLS there is none.
    pub fn rotate_token(&self) -> String {
        let next = uuid::Uuid::new_v4().simple().to_string();
        let mut token = self.shared.access.token();
        *token = token.take().map(|_| next);
        token.clone().unwrap_or_default()
    }
}
