//! Who asks, by the bearer token that a request carries. Replicas share the tokens, as a cluster's API servers do.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::ApiServer;
use super::refusal::Refusal;
use super::rights::Account;

/// The tokens that count now.
#[derive(Debug, Default)]
pub(crate) struct Access {
    /// The cluster's own; None lets everyone in.
    own: Mutex<Option<String>>,
    /// Those of ServiceAccounts.
    accounts: Mutex<BTreeMap<String, Account>>,
}

impl Access {
    pub(crate) fn new(token: Option<String>) -> Self {
        Self { own: Mutex::new(token), accounts: Mutex::default() }
    }

    pub(crate) fn token(&self) -> MutexGuard<'_, Option<String>> {
        // It is changed in one step.
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a token for an account.
    pub(crate) fn issue(&self, account: Account) -> String {
        let token = new_token();
        self.accounts().insert(token.clone(), account);
        token
    }

    /// Refuses a request without a token. None is who may do everything.
    pub(crate) fn authenticate(&self, authorization: &str) -> Result<Option<Account>, Refusal> {
        let shown = authorization.strip_prefix("Bearer ");
        if let Some(account) = shown.and_then(|token| self.accounts().get(token).cloned()) {
            return Ok(Some(account));
        }
        match &*self.token() {
            Some(token) if shown != Some(token) => Err(Refusal::unauthorized()),
            _ => Ok(None),
        }
    }

    fn accounts(&self) -> MutexGuard<'_, BTreeMap<String, Account>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn new_token() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

impl ApiServer {
    /// Gives the token that counts from now on; the one before is refused. Running watches go on. Without TLS there is none.
    pub fn rotate_token(&self) -> String {
        let mut token = self.shared.access.token();
        *token = token.take().map(|_| new_token());
        token.clone().unwrap_or_default()
    }
}
