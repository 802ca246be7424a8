use axum::Json;
use axum::http::StatusCode;

use super::{Delivery, DeliveryPath};
use crate::error::RegistryError;
use crate::http::{Caller, IdempotencyKey, PathOf, Problems, Serving};
use crate::idempotency::Once;

/// Sends an event once more, as a delivery of its own with the same `webhook-id`, whatever became of this one.
///
/// Scope: `tenant:manage`. Another tenant's is 404.
#[utoipa::path(
    post, path = "/webhooks/{webhook}/deliveries/{delivery}/replay", tag = "webhooks",
    params(DeliveryPath, IdempotencyKey),
    responses((status = 201, description = "The new delivery", body = Delivery), Problems)
)]
pub(crate) async fn replay_delivery(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<DeliveryPath>,
    once: Once,
) -> Result<(StatusCode, Json<Delivery>), RegistryError> {
    let DeliveryPath { webhook, delivery } = path;
    let made = registry.replay_delivery(&caller.0, &webhook, &delivery, &once, Delivery::from).await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}
