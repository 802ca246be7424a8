//! What happens around every request: its id, its line in the log, its place in the figures.

use std::any::Any;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use souk_protocol::RequestId;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::error::ApiError;
use crate::metrics;

/// Gives the request an id, which its jobs carry and its answer shows, and counts it.
pub(crate) async fn observe(mut request: Request, next: Next) -> Response {
    let id = RequestId::new();
    let method = method_label(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", |path| path.as_str()).to_owned();
    let span = tracing::info_span!("request", request.id = %id, method, route);
    request.extensions_mut().insert(id.clone());
    let started = Instant::now();
    let mut response = next.run(request).instrument(span.clone()).await;
    let status = response.status().as_u16();
    metrics::request(&route, method, status);
    span.in_scope(|| tracing::debug!(status, elapsed_ms = started.elapsed().as_millis() as u64, "answered"));
    set_request_id(&mut response, &id);
    response
}

/// Shows the request's id on its answer.
pub(crate) fn set_request_id(response: &mut Response, id: &RequestId) {
    let id = HeaderValue::from_str(id.as_str()).expect("an id is letters, digits and an underscore");
    response.headers_mut().insert("x-request-id", id);
}

/// Answers a panic of a handler like any other error of ours.
#[expect(clippy::needless_pass_by_value, reason = "the panic layer hands over the payload")]
pub(crate) fn panicked(payload: Box<dyn Any + Send>) -> Response {
    let message = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a handler panicked".to_owned());
    ApiError::internal(message).into_response()
}

/// A method as a label: clients may make up others.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::middleware::from_fn;
    use axum::routing::get;
    use tower::ServiceExt as _;
    use tower_http::catch_panic::CatchPanicLayer;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_500_in_shape_that_tells_nothing() {
        async fn panics() {
            panic!("secret");
        }
        let router = Router::new().route("/", get(panics));
        let router = router.layer(CatchPanicLayer::custom(panicked)).layer(from_fn(observe));
        let response = router.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.status(), 500);
        assert!(response.headers().contains_key("x-request-id"));
        let body = to_bytes(response.into_body(), 10_000).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["error"]["code"], "internal_error");
        assert!(!body.to_string().contains("secret"));
    }
}
