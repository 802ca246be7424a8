use axum::Json;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Webhook, WebhookWithSecret};
use crate::error::RegistryError;
use crate::http::{Body, Caller, IdempotencyKey, Problems, Serving};
use crate::idempotency::Once;
use crate::webhooks::EndpointRequest;

/// A webhook to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateWebhook {
    /// Where events are to be sent: `https://…` at a public address, in up to 2,000 characters, without a user and a fragment.
    #[schema(example = "https://example.com/souk")]
    url: String,
    /// What it is for, in up to 200 characters.
    #[serde(default)]
    description: String,
    /// The kinds of events that it gets; absent or empty for all, of those too that there will be.
    #[serde(default)]
    #[schema(example = json!(["version.ready"]))]
    kinds: Vec<String>,
}

/// Makes a webhook and shows its secret, once.
///
/// Scope: `tenant:manage`. A tenant has at most `registry.webhooks.max_endpoints_per_tenant`; the next answers 409 `too_many`.
#[utoipa::path(
    post, path = "/webhooks", tag = "webhooks",
    params(IdempotencyKey),
    request_body = CreateWebhook,
    responses((status = 201, description = "The webhook, with its secret", body = WebhookWithSecret), Problems)
)]
pub(crate) async fn create_webhook(
    Serving(registry): Serving,
    caller: Caller,
    once: Once,
    Body(request): Body<CreateWebhook>,
) -> Result<(StatusCode, Json<WebhookWithSecret>), RegistryError> {
    let CreateWebhook { url, description, kinds } = request;
    let request = EndpointRequest { url: Some(url), description: Some(description), kinds: Some(kinds), enabled: None };
    // The answer that is kept has no secret.
    let kept = |row| WebhookWithSecret { secret: None, webhook: Webhook::from(row) };
    let (row, secret) = registry.create_webhook(&caller.0, request, &once, kept).await?;
    let made = WebhookWithSecret { secret: Some(secret.expose()), webhook: row.into() };
    Ok((StatusCode::CREATED, Json(made)))
}
