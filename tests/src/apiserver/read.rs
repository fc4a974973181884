//! Get and list: objects as clients read them, whole or in pages.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::paths::text;
use super::refusal::{Cause, Refusal};
use super::request::{Query, Target};
use super::resource::Resource;
use super::store::{Key, Store};

/// Objects of one kind as they were at one revision.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) objects: Vec<Arc<Value>>,
    pub(crate) revision: u64,
    /// What to send as `continue` for the next page; empty at the end.
    pub(crate) token: String,
    pub(crate) remaining: usize,
}

pub(crate) fn get(store: &Store, target: &Target) -> Result<Arc<Value>, Refusal> {
    let name = target.name.as_deref().unwrap_or_default();
    let key = Key::new(target.resource, target.namespace.as_deref().unwrap_or_default(), name);
    store.get(&key).cloned().ok_or_else(|| Refusal::not_found(target.resource, name))
}

/// One page. Later pages show the state that the first one was made of.
pub(crate) fn list(store: &Store, target: &Target, query: &Query) -> Result<Page, Refusal> {
    let selector = query.selector(target)?;
    let token = query.text("continue");
    let (revision, after) = if token.is_empty() {
        (revision_to_list(store, query)?, None)
    } else {
        let (revision, key) = read_token(target.resource, token)?;
        (revision, Some(key))
    };
    let expired = |_| {
        if after.is_some() {
            Refusal::continue_expired()
        } else {
            Refusal::expired(revision, store.revision())
        }
    };
    let all = store.snapshot(target.resource, target.namespace.as_deref(), revision).map_err(expired)?;
    let mut rest = all
        .into_iter()
        .filter(|(key, object)| after.as_ref().is_none_or(|after| key > after) && selector.matches(object));
    let limit = usize::try_from(query.number("limit")?).unwrap_or(usize::MAX);
    let limit = if limit == 0 { usize::MAX } else { limit };
    let page: Vec<_> = rest.by_ref().take(limit).collect();
    let remaining = rest.count();
    let token = match page.last() {
        Some((last, _)) if remaining > 0 => write_token(revision, last),
        _ => String::new(),
    };
    let objects = page.into_iter().map(|(_, object)| object).collect();
    Ok(Page { objects, revision, token, remaining })
}

fn revision_to_list(store: &Store, query: &Query) -> Result<u64, Refusal> {
    let asked = query.number("resourceVersion")?;
    if asked > store.revision() {
        return Err(Refusal::from_the_future(asked, store.revision()));
    }
    match query.text("resourceVersionMatch") {
        "Exact" if asked == 0 => {
            let why = "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"";
            Err(Refusal::invalid_list_options(Cause::forbidden("resourceVersionMatch", why)))
        }
        "Exact" => Ok(asked),
        _ => Ok(store.revision()),
    }
}

fn write_token(revision: u64, last: &Key) -> String {
    URL_SAFE_NO_PAD.encode(json!({"v": revision, "namespace": last.namespace, "name": last.name}).to_string())
}

fn read_token(resource: &Resource, token: &str) -> Result<(u64, Key), Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    let token = bytes.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok()).unwrap_or_default();
    let revision = token["v"].as_u64().ok_or_else(|| Refusal::bad_request("continue key is not valid"))?;
    Ok((revision, Key::new(resource, text(&token, "namespace"), text(&token, "name"))))
}

/// A list object. Its items do not repeat kind and version, as the real server's do not.
pub(crate) fn to_list(resource: &Resource, page: &Page) -> Value {
    let items = page.objects.iter().map(|object| {
        let mut item = resource.shown(object);
        if let Value::Object(fields) = &mut item {
            fields.retain(|field, _| field != "kind" && field != "apiVersion");
        }
        item
    });
    json!({
        "kind": format!("{}List", resource.kind),
        "apiVersion": resource.api_version(),
        "metadata": list_metadata(page),
        "items": items.collect::<Vec<_>>(),
    })
}

pub(crate) fn list_metadata(page: &Page) -> Value {
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if !page.token.is_empty() {
        metadata["continue"] = json!(page.token);
        metadata["remainingItemCount"] = json!(page.remaining);
    }
    metadata
}
