//! `GET /ready`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use souk_http::health::readiness;
use utoipa::ToSchema;

use crate::gateway::Gateway;

/// Says whether each base model has a live node.
///
/// No key is needed. 503 while one has none, and while the process is shutting down: balancers send requests elsewhere.
#[utoipa::path(
    get,
    path = "/ready",
    tag = "operations",
    responses(
        (status = 200, description = "Every base model can be called", body = Readiness),
        (status = 503, description = "Not now", body = Readiness),
    )
)]
pub(crate) async fn ready(State(gateway): State<Gateway>) -> (StatusCode, Json<Readiness>) {
    let mut bases = Vec::with_capacity(gateway.bases().len());
    for base in gateway.bases() {
        // A queue that cannot be reached is as bad as no node, and says so in the log when a request meets it.
        let nodes = gateway.queue().lanes(base.pool()).await.map_or(0, |lanes| lanes.len());
        bases.push(BaseReadiness { id: base.id.clone(), nodes });
    }
    let status = if gateway.is_draining() {
        "shutting_down"
    } else if bases.iter().any(|base| base.nodes == 0) {
        "waiting_for_nodes"
    } else {
        "ready"
    };
    readiness(status == "ready", Readiness { status, bases })
}

/// Whether models can be called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Readiness {
    /// `ready`, `waiting_for_nodes` or `shutting_down`.
    pub status: &'static str,
    /// Each base model.
    pub bases: Vec<BaseReadiness>,
}

/// One base model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct BaseReadiness {
    /// Its id, as callers write it in `model`.
    pub id: String,
    /// How many live nodes serve it.
    pub nodes: usize,
}
