//! `GET /metrics`.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use crate::gateway::Gateway;
use crate::metrics;

/// Figures of this process in Prometheus' text format. They name no tenant and no adapter.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operations",
    responses((status = 200, description = "The figures", body = String, content_type = "text/plain"))
)]
pub(crate) async fn render_metrics(State(gateway): State<Gateway>) -> impl IntoResponse {
    for base in gateway.bases() {
        // A queue that cannot be reached leaves the last figures; requests will say so themselves.
        if let Ok(stats) = gateway.queue().stats(base.pool()).await {
            metrics::queue(&base.id, &stats);
        }
    }
    let handle = gateway.metrics();
    handle.run_upkeep();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], handle.render())
}
