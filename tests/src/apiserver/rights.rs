//! Who may ask for what: ServiceAccounts with tokens of their own, and the ClusterRoles that bindings give them.
//!
//! Not all of RBAC: no Roles of one namespace, no names of objects, no groups, no aggregation; what has them gives nothing.
//! Whoever has the cluster's own token or a certificate may do everything.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::ApiServer;
use super::asked::Asked;
use super::kinds::roles;
use super::paths::{items, text, texts};
use super::refusal::Refusal;
use super::store::{Key, Store};

const ANY: &str = "*";

/// A ServiceAccount: its namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Account {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// The rules that are bound to an account.
fn rules(store: &Store, account: &Account) -> Vec<Value> {
    let is_meant = |binding: &Arc<Value>| {
        items(binding, "subjects").iter().any(|subject| {
            text(subject, "kind") == "ServiceAccount"
                && text(subject, "name") == account.name
                && text(subject, "namespace") == account.namespace
        })
    };
    let bindings = store.find_all(&roles::BINDING, None).map(|(_, binding)| binding);
    let bound =
        bindings.filter(|binding| is_meant(binding) && text(binding, "roleRef.kind") == "ClusterRole");
    let roles = bound.filter_map(|it| store.get(&Key::new(&roles::ROLE, "", text(it, "roleRef.name"))));
    roles
        .flat_map(|role| items(role, "rules").to_vec())
        .filter(|rule| texts(rule, "resourceNames").is_empty())
        .collect()
}

/// Refuses what no rule allows, in the API server's words.
pub(crate) fn authorize(
    store: &Store,
    account: &Account,
    asked: &Asked,
    namespace: Option<&str>,
) -> Result<(), Refusal> {
    let has = |rule: &Value, field, wanted: &str| {
        texts(rule, field).iter().any(|word| *word == wanted || *word == ANY)
    };
    let allows = |rule: &Value| {
        has(rule, "verbs", asked.verb)
            && has(rule, "apiGroups", asked.group)
            && has(rule, "resources", &asked.resource)
    };
    if rules(store, account).iter().any(allows) {
        return Ok(());
    }
    let Account { namespace: of, name } = account;
    let Asked { verb, group, resource } = asked;
    let scope = namespace.map_or("at the cluster scope".to_owned(), |it| format!("in the namespace {it:?}"));
    Err(Refusal::forbidden(format!(
        "{resource} is forbidden: User \"system:serviceaccount:{of}:{name}\" cannot {verb} resource \
         {resource:?} in API group {group:?} {scope}"
    )))
}

impl ApiServer {
    /// A token for a ServiceAccount, with which a client may do what the roles say that are bound to it, and nothing else.
    pub fn token_of(&self, namespace: &str, name: &str) -> String {
        self.shared.access.issue(Account { namespace: namespace.to_owned(), name: name.to_owned() })
    }

    /// What a ServiceAccount may ask for, one line each: `list endpointslices.discovery.k8s.io`.
    pub fn rights_of(&self, namespace: &str, name: &str) -> BTreeSet<String> {
        let account = Account { namespace: namespace.to_owned(), name: name.to_owned() };
        let mut rights = BTreeSet::new();
        for rule in rules(&self.shared.store(), &account) {
            for verb in texts(&rule, "verbs") {
                for group in texts(&rule, "apiGroups") {
                    let resources = texts(&rule, "resources").into_iter();
                    rights.extend(resources.map(|resource| Asked::line(verb, group, resource)));
                }
            }
        }
        rights
    }

    /// What a ServiceAccount has asked for, allowed or not, in the same words.
    pub fn asked_by(&self, namespace: &str, name: &str) -> BTreeSet<String> {
        let account = Account { namespace: namespace.to_owned(), name: name.to_owned() };
        let all = self.shared.asked_by();
        all.iter().filter(|(by, _)| *by == account).map(|(_, asked)| asked.to_string()).collect()
    }
}
