//! `GET /metrics`.

use axum::extract::State;
use axum::response::Response;

use crate::gateway::Gateway;
use crate::metrics;

/// Figures of this process in Prometheus' text format.
///
/// No key is needed; on a server with an operators' port it is on that port alone. They name no tenant and no adapter.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operations",
    responses((status = 200, description = "The figures", body = String, content_type = "text/plain"))
)]
pub(crate) async fn render_metrics(State(gateway): State<Gateway>) -> Response {
    for base in gateway.bases() {
        // A queue that cannot be reached leaves the last figures; requests will say so themselves.
        if let Ok(stats) = gateway.queue().stats(base.pool()).await {
            metrics::queue(&base.id, &stats);
        }
    }
    metrics::reading(gateway.gates().reading());
    metrics::texts(gateway.text_load());
    gateway.hooks().tell();
    let accounting = gateway.accounting();
    metrics::usage(accounting.num_unwritten(), accounting.num_holding(), accounting.journal_bytes());
    gateway.metrics().answer()
}
