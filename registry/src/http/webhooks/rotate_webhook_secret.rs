use axum::Json;
use axum::http::StatusCode;

use super::{WebhookPath, WebhookWithSecret};
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems, Serving};

/// Gives a webhook another secret and shows it, once. The one before signs too for `registry.webhooks.secret_overlap_s`: each
/// request has both signatures.
///
/// Scope: `tenant:manage`. Another tenant's is 404.
#[utoipa::path(
    post, path = "/webhooks/{webhook}/rotate-secret", tag = "webhooks",
    params(WebhookPath),
    responses((status = 201, description = "The webhook, with its new secret", body = WebhookWithSecret), Problems)
)]
pub(crate) async fn rotate_webhook_secret(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<WebhookPath>,
) -> Result<(StatusCode, Json<WebhookWithSecret>), RegistryError> {
    let (row, secret) = registry.rotate_webhook_secret(&caller.0, &path.webhook).await?;
    let made = WebhookWithSecret { secret: Some(secret.expose()), webhook: row.into() };
    Ok((StatusCode::CREATED, Json(made)))
}
