use axum::Json;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Webhook, WebhookPath};
use crate::error::RegistryError;
use crate::http::{Body, Caller, PathOf, Problems, Serving};
use crate::webhooks::EndpointRequest;

/// What is to change; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateWebhook {
    /// Where events are to be sent from now on, those too that wait.
    url: Option<String>,
    /// What it is for, in up to 200 characters.
    description: Option<String>,
    /// The kinds of events that it gets; empty for all.
    kinds: Option<Vec<String>>,
    /// `false` pauses it: what happens meanwhile waits. `true` enables it again, and what waits is sent.
    enabled: Option<bool>,
}

/// Changes a webhook, pauses it or enables it again.
///
/// Scope: `tenant:manage`. Another tenant's is 404.
#[utoipa::path(
    patch, path = "/webhooks/{webhook}", tag = "webhooks",
    params(WebhookPath),
    request_body = UpdateWebhook,
    responses((status = 200, description = "The webhook as it is now", body = Webhook), Problems)
)]
pub(crate) async fn update_webhook(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<WebhookPath>,
    Body(request): Body<UpdateWebhook>,
) -> Result<Json<Webhook>, RegistryError> {
    let UpdateWebhook { url, description, kinds, enabled } = request;
    let request = EndpointRequest { url, description, kinds, enabled };
    Ok(Json(registry.update_webhook(&caller.0, &path.webhook, request).await?.into()))
}
