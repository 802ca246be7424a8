use axum::Json;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{Delivery, WebhookPath};
use crate::db::webhook_deliveries::{DEAD, DELIVERED, PENDING};
use crate::error::RegistryError;
use crate::http::{Caller, Page, PageQuery, PathOf, Problems, QueryOf, Serving};

/// Which deliveries, and which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListDeliveries {
    /// Only those in this state.
    #[param(inline)]
    state: Option<DeliveryState>,
    /// Items per page, 1 to 100; 20 if absent.
    limit: Option<u64>,
    /// `next_cursor` of the page before; absent for the first page.
    cursor: Option<String>,
}

/// How far a delivery is.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DeliveryState {
    Pending,
    Delivered,
    Dead,
}

/// Deliveries to a webhook, the newest first, each with what became of it.
///
/// Scope: `tenant:manage`. Another tenant's webhook is 404.
#[utoipa::path(
    get, path = "/webhooks/{webhook}/deliveries", tag = "webhooks",
    params(WebhookPath, ListDeliveries),
    responses((status = 200, description = "Deliveries", body = Page<Delivery>), Problems)
)]
pub(crate) async fn list_deliveries(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<WebhookPath>,
    QueryOf(request): QueryOf<ListDeliveries>,
) -> Result<Json<Page<Delivery>>, RegistryError> {
    let slice = PageQuery::new(request.limit, request.cursor).slice()?;
    let limit = slice.limit;
    let state = request.state.map(|state| match state {
        DeliveryState::Pending => PENDING,
        DeliveryState::Delivered => DELIVERED,
        DeliveryState::Dead => DEAD,
    });
    let rows = registry.list_deliveries(&caller.0, &path.webhook, state, slice).await?;
    Ok(Json(Page::from_rows(rows, limit, |details| details.row.id.clone(), Delivery::from)))
}
