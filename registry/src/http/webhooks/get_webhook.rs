use axum::Json;

use super::{Webhook, WebhookPath};
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems, Serving};

/// One webhook.
///
/// Scope: `tenant:manage`. Another tenant's is 404.
#[utoipa::path(
    get, path = "/webhooks/{webhook}", tag = "webhooks",
    params(WebhookPath),
    responses((status = 200, description = "The webhook", body = Webhook), Problems)
)]
pub(crate) async fn get_webhook(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<WebhookPath>,
) -> Result<Json<Webhook>, RegistryError> {
    Ok(Json(registry.get_webhook(&caller.0, &path.webhook).await?.into()))
}
