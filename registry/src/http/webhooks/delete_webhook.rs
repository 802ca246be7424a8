use axum::http::StatusCode;

use super::WebhookPath;
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems, Serving};

/// Deletes a webhook with its deliveries. Nothing is sent to it any more.
///
/// Scope: `tenant:manage`. Another tenant's is 404.
#[utoipa::path(
    delete, path = "/webhooks/{webhook}", tag = "webhooks",
    params(WebhookPath),
    responses((status = 204, description = "It is gone"), Problems)
)]
pub(crate) async fn delete_webhook(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<WebhookPath>,
) -> Result<StatusCode, RegistryError> {
    registry.delete_webhook(&caller.0, &path.webhook).await?;
    Ok(StatusCode::NO_CONTENT)
}
