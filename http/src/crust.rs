//! What lies around a service's routes, and in which order.

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};

use crate::observe::observe;
use crate::panic::answer_panics;
use crate::refused_body::read_away;
use crate::service::Service;

/// Puts the crust around all routes that `router` has by now. From the outside in:
///
/// 1. the request's id, its span in the log and its place in the figures, so that they cover all that follows;
/// 2. refused bodies are read away, whoever refused;
/// 3. a panic becomes an answer.
///
/// Call it after the exporter is installed: it says there what the service's figures mean.
pub fn put_around<S: Clone + Send + Sync + 'static>(router: Router<S>, service: &'static Service) -> Router<S> {
    service.describe();
    router
        .layer(answer_panics(service.answer_panic))
        .layer(from_fn(read_away))
        .layer(from_fn_with_state(service, observe))
}
