//! One request, one answer: who may ask, what is asked, and the words of HTTP around the outcome.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::asked::Asked;
use super::patch::PatchType;
use super::paths::text;
use super::refusal::Refusal;
use super::request::{Query, Target, WatchOptions};
use super::rights::Account;
use super::serve::{Body, Broken, Shared};
use super::tables::Encoding;
use super::verbs::{self, Part, Place};
use super::watch::Watch;
use super::{discovery, openapi, read, rights, strict};

/// The largest object that etcd takes is 1.5 MiB, and the real server reads twice that.
const MAX_BODY: usize = 3 << 20;

type Answer = Result<Response<Body>, Refusal>;

/// Answers a request, sooner or (stalled) later, of a client that may have shown a certificate.
pub(crate) async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    has_certificate: bool,
) -> Response<Body> {
    let mut faults = shared.faults.subscribe();
    // The sender lives in `shared`, so waiting ends only when the stall does.
    let _ = faults.wait_for(|it| !it.stalled).await;
    let sick = *faults.borrow_and_update();
    if sick.failing.is_some() || sick.babbling {
        count(&shared, &request);
    }
    if let Some(code) = sick.failing.and_then(|code| StatusCode::from_u16(code).ok()) {
        return response(code, "text/plain; charset=utf-8", "the server is in trouble\n".into());
    }
    if sick.babbling {
        return response(StatusCode::OK, "application/json", "<html>welcome</html>\n".into());
    }
    tracing::debug!(method = %request.method(), uri = %request.uri(), "request");
    match route(&shared, request, has_certificate).await {
        Ok(response) => response,
        Err(refusal) => {
            let code = StatusCode::from_u16(refusal.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            document(code, &refusal.to_status())
        }
    }
}

/// Counts a request that nobody looks at any further.
fn count(shared: &Shared, request: &Request<Incoming>) {
    let segments: Vec<_> = request.uri().path().split('/').filter(|segment| !segment.is_empty()).collect();
    if let Some(target) = Target::parse(&segments) {
        let asked = Asked::of(request.method(), &target, &Query::parse(request.uri().query()));
        *shared.asked().entry(asked).or_default() += 1;
    }
}

async fn route(shared: &Arc<Shared>, request: Request<Incoming>, has_certificate: bool) -> Answer {
    let path = request.uri().path().to_owned();
    if ["/healthz", "/livez", "/readyz"].contains(&path.as_str()) {
        return Ok(response(StatusCode::OK, "text/plain; charset=utf-8", "ok".into()));
    }
    let account = match has_certificate {
        true => None,
        false => shared.access.authenticate(header(&request, AUTHORIZATION))?,
    };
    let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    if let Some(target) = Target::parse(&segments) {
        return act(shared, target, request, account.as_ref()).await;
    }
    if request.method() != Method::GET {
        return Err(Refusal::no_such_page());
    }
    if let ["openapi", "v2"] = segments.as_slice() {
        return Ok(response(StatusCode::OK, openapi::V2_TYPE, openapi::v2().into()));
    }
    let found = discovery::find(&segments).or_else(|| openapi::find_v3(&segments));
    found.map(|found| document(StatusCode::OK, &found)).ok_or_else(Refusal::no_such_page)
}

async fn act(
    shared: &Arc<Shared>,
    target: Target,
    request: Request<Incoming>,
    account: Option<&Account>,
) -> Answer {
    let query = Query::parse(request.uri().query());
    let encoding = Encoding::choose(header(&request, ACCEPT), query.text("includeObject"));
    let method = request.method().clone();
    let asked = Asked::of(&method, &target, &query);
    *shared.asked().entry(asked.clone()).or_default() += 1;
    if let Some(account) = account {
        shared.asked_by().insert((account.clone(), asked.clone()));
        rights::authorize(&shared.store(), account, &asked, target.namespace.as_deref())?;
    }
    if shared.faults.borrow().forbidden == Some(target.resource.plural) {
        return Err(Refusal::nobody_may(target.resource));
    }
    let content_type = header(&request, CONTENT_TYPE).to_owned();
    if method == Method::GET {
        return if query.is_true("watch") && !target.status {
            watch(shared, target, &query, encoding)
        } else {
            fetch(shared, &target, &query, encoding)
        };
    }
    let writes = matches!(method, Method::POST | Method::PUT | Method::PATCH | Method::DELETE);
    if !writes || target.resource.convert.is_some() {
        return Err(Refusal::method_not_allowed());
    }
    let body = read_body(request).await?;
    let (code, object) = match (method, &target.name) {
        (Method::POST, None) => {
            create(shared, &target, &query, valid(&query, json_body(&content_type, &body)?)?)?
        }
        (Method::PUT, Some(name)) => {
            let object = valid(&query, json_body(&content_type, &body)?)?;
            let place = place(&target, &query, name);
            (StatusCode::OK, shared.write(|store| verbs::update(store, place, object))?)
        }
        (Method::PATCH, Some(name)) => patch(shared, place(&target, &query, name), &content_type, &body)?,
        (Method::DELETE, _) if !target.status => return delete(shared, &target, &query, &body),
        _ => return Err(Refusal::method_not_allowed()),
    };
    Ok(document(code, &encoding.encode_one(target.resource, &object, true)))
}

fn place<'a>(target: &'a Target, query: &Query, name: &'a str) -> Place<'a> {
    Place {
        resource: target.resource,
        namespace: target.namespace.as_deref().unwrap_or_default(),
        name,
        part: if target.status { Part::Status } else { Part::Main },
        dry_run: query.dry_run(),
    }
}

fn fetch(shared: &Shared, target: &Target, query: &Query, encoding: Encoding) -> Answer {
    let store = shared.store();
    let found = if target.name.is_some() {
        encoding.encode_one(target.resource, &*read::get(&store, target)?, true)
    } else {
        let page = read::list(&store, target, query)?;
        drop(store);
        encoding.encode(target.resource, &page)
    };
    Ok(document(StatusCode::OK, &found))
}

fn watch(shared: &Arc<Shared>, target: Target, query: &Query, encoding: Encoding) -> Answer {
    let faults = *shared.faults.borrow();
    let options = WatchOptions::parse(query, faults.streaming_lists)?;
    let selector = query.selector(&target)?;
    let (sender, body) = Channel::<Bytes, Broken>::new(16);
    let watch = Watch { shared: Arc::clone(shared), target, selector, options, encoding, cuts: faults.cuts };
    tokio::spawn(watch.run(sender));
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    Ok(response)
}

fn create(
    shared: &Shared,
    target: &Target,
    query: &Query,
    object: Value,
) -> Result<(StatusCode, Arc<Value>), Refusal> {
    if target.resource.namespaced && target.namespace.is_none() {
        return Err(Refusal::method_not_allowed());
    }
    let place = place(target, query, "");
    let created = shared.write(|store| verbs::create(store, place, object))?;
    Ok((StatusCode::CREATED, created))
}

fn patch(
    shared: &Shared,
    place: Place<'_>,
    content_type: &str,
    body: &[u8],
) -> Result<(StatusCode, Arc<Value>), Refusal> {
    let kind =
        PatchType::of(content_type).ok_or_else(|| Refusal::unsupported_media_type(PatchType::ACCEPTED))?;
    let patch: Value = serde_json::from_slice(body)
        .map_err(|error| Refusal::bad_request(format!("error decoding patch: {error}")))?;
    let (object, created) = shared.write(|store| verbs::patch(store, place, kind, &patch))?;
    Ok((if created { StatusCode::CREATED } else { StatusCode::OK }, object))
}

/// One object, or all that the query selects.
fn delete(shared: &Shared, target: &Target, query: &Query, body: &[u8]) -> Answer {
    let options: Value = if body.is_empty() { Value::Null } else { json_body("application/json", body)? };
    if let Some(name) = &target.name {
        let place = place(target, query, name);
        let deleted = shared.write(|store| verbs::delete(store, place, &options))?;
        let resource = target.resource;
        let details = json!({
            "name": name, "group": resource.group, "kind": resource.plural, "uid": text(&deleted, "metadata.uid"),
        });
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
        return Ok(document(StatusCode::OK, &status));
    }
    if target.resource.namespaced && target.namespace.is_none() {
        return Err(Refusal::method_not_allowed());
    }
    let deleted = shared.write(|store| {
        let page = read::list(store, target, query)?;
        for object in &page.objects {
            let place = place(target, query, text(object, "metadata.name"));
            verbs::delete(store, place, &options)?;
        }
        Ok(page)
    })?;
    Ok(document(StatusCode::OK, &read::to_list(target.resource, &deleted)))
}

async fn read_body(request: Request<Incoming>) -> Result<Bytes, Refusal> {
    match Limited::new(request.into_body(), MAX_BODY).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::too_large(MAX_BODY)),
        Err(error) => Err(Refusal::bad_request(format!("cannot read the body: {error}"))),
    }
}

fn json_body(content_type: &str, body: &[u8]) -> Result<Value, Refusal> {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    if !["", "application/json"].contains(&kind) {
        return Err(Refusal::unsupported_media_type("application/json"));
    }
    serde_json::from_slice(body)
        .map_err(|error| Refusal::bad_request(format!("the body is not JSON: {error}")))
}

/// The object, unless the client wants to hear of fields that there are not, and it has some.
fn valid(query: &Query, object: Value) -> Result<Value, Refusal> {
    if query.text("fieldValidation") == "Strict" {
        strict::check(&object)?;
    }
    Ok(object)
}

fn header(request: &Request<Incoming>, name: hyper::header::HeaderName) -> &str {
    request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn document(code: StatusCode, document: &Value) -> Response<Body> {
    response(code, "application/json", document.to_string().into())
}

fn response(code: StatusCode, content_type: &'static str, body: Bytes) -> Response<Body> {
    let body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}
