//! Refuses what would change something while the process stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use souk_protocol::RequestId;

use crate::problem::Problem;
use crate::request_id;

/// Whether the process stops. Clones say the same.
#[derive(Clone, Debug, Default)]
pub struct Draining(Arc<AtomicBool>);

impl Draining {
    /// From now on it does.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it does.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Passes reads on always, and other requests until draining begins; then they are refused with 503. It stands outside
/// of the service's layers, so it gives the refusal its id itself.
pub async fn refuse_writes(State(draining): State<Draining>, request: Request, next: Next) -> Response {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if is_read || !draining.0.load(Ordering::Acquire) {
        return next.run(request).await;
    }
    let detail = "the server is shutting down and changes nothing any more";
    let mut response = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", detail).into_response();
    request_id::show(&mut response, &RequestId::new());
    response
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn writes_are_refused_while_draining_and_reads_answered() {
        let draining = Draining::default();
        let router = Router::new()
            .route("/thing", get(|| async {}).put(|| async {}))
            .layer(from_fn_with_state(draining.clone(), refuse_writes));
        let ask = async |method: Method| {
            let request = Request::builder().method(method).uri("/thing").body(Body::empty()).unwrap();
            router.clone().oneshot(request).await.unwrap()
        };
        assert_eq!(ask(Method::PUT).await.status(), 200);
        draining.begin();
        assert_eq!(ask(Method::GET).await.status(), 200);
        let refused = ask(Method::PUT).await;
        assert_eq!(refused.status(), 503);
        let headers = refused.headers();
        assert_eq!(headers["content-type"], "application/problem+json");
        assert!(headers.contains_key("retry-after") && headers.contains_key("x-request-id"));
    }
}
