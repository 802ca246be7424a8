//! Signs of life for load balancers: whether the process answers, and whether it can do its work.

use axum::Json;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

/// Says that the process answers.
///
/// No key is needed. Whether it can serve models is what `/ready` says.
#[utoipa::path(get, path = "/health", tag = "operations", responses((status = 200, description = "Alive", body = Health)))]
pub async fn health() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// A sign of life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Health {
    /// `ok`.
    pub status: &'static str,
}

/// The answer to whether a service can do its work now: 200, or 503 so that balancers send requests elsewhere. `facts` are
/// the service's own.
pub fn readiness<T>(is_ready: bool, facts: T) -> (StatusCode, Json<T>) {
    (if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(facts))
}
