//! What a scraper is answered: all series of a registry, in the format that it asks for. heddle-node answers by the same.

use super::text;
use crate::http::{self, Request, Response, StatusCode};
use hyper::header::ACCEPT;
use prometheus_client::registry::Registry;

/// All series now, as `OpenMetrics` 1.0.0.
pub fn encode(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing to a text cannot fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, registry);
    text
}

/// The answer with this text of [`encode`].
pub fn exposition(request: &Request, open_metrics: String) -> Response {
    let accept = request.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    if text::wants_open_metrics(&accept.collect::<Vec<_>>().join(",")) {
        http::response(StatusCode::OK, text::OPEN_METRICS, open_metrics)
    } else {
        http::response(StatusCode::OK, text::PLAIN, text::plain(&open_metrics))
    }
}
