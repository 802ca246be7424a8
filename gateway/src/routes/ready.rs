//! `GET /ready`.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use souk_http::health::readiness;
use utoipa::ToSchema;

use crate::gateway::Gateway;

/// Says whether each base model has a live node, and whether callers can be known.
///
/// No key is needed. 503 while a base has none, while no registry has answered for longer than what is known of rights is
/// believed, and while the process is shutting down: balancers send requests elsewhere.
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
        let nodes = gateway.lanes_of(base).num_nodes().await.unwrap_or(0);
        bases.push(BaseReadiness { id: base.id.clone(), nodes });
    }
    let lost_for = gateway.catalog().lost_for();
    let status = if gateway.is_draining() {
        "shutting_down"
    } else if lost_for.is_some() {
        "waiting_for_registries"
    } else if bases.iter().any(|base| base.nodes == 0) {
        "waiting_for_nodes"
    } else {
        "ready"
    };
    let reason = lost_for.map(|lost_for| match lost_for {
        Duration::MAX => "no registry has answered yet".to_owned(),
        lost_for => format!("no registry has answered for {} s", lost_for.as_secs()),
    });
    readiness(status == "ready", Readiness { status, reason, bases })
}

/// Whether models can be called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Readiness {
    /// `ready`, `waiting_for_registries`, `waiting_for_nodes` or `shutting_down`.
    pub status: &'static str,
    /// Why callers cannot be known; absent where they can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
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
