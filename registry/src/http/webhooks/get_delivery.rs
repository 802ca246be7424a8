use axum::Json;

use super::{Delivery, DeliveryPath};
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems, Serving};

/// One delivery.
///
/// Scope: `tenant:manage`. Another tenant's is 404.
#[utoipa::path(
    get, path = "/webhooks/{webhook}/deliveries/{delivery}", tag = "webhooks",
    params(DeliveryPath),
    responses((status = 200, description = "The delivery", body = Delivery), Problems)
)]
pub(crate) async fn get_delivery(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<DeliveryPath>,
) -> Result<Json<Delivery>, RegistryError> {
    Ok(Json(registry.get_delivery(&caller.0, &path.webhook, &path.delivery).await?.into()))
}
