//! `GET /health`.

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

/// Says that the process answers. Whether it can serve models is what `/ready` says.
#[utoipa::path(get, path = "/health", tag = "operations", responses((status = 200, description = "Alive", body = Health)))]
pub(crate) async fn health() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// A sign of life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Health {
    /// `ok`.
    pub status: &'static str,
}
