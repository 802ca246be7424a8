use axum::Json;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{Key, KeyKind};
use crate::error::RegistryError;
use crate::http::{Body, Caller, IdempotencyKey, Problems, Serving};
use crate::idempotency::Once;
use crate::keys::KeyRequest;

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateKey {
    /// 1 to 100 characters that tell its owner what it is for.
    name: String,
    /// What it may do: some of `inference`, `adapters:read`, `adapters:write`, `keys:manage`, `access:decide`,
    /// `audit:read`, `usage:read`, `tenant:manage`, `admin`, and none that the caller's own key lacks.
    scopes: Vec<String>,
    /// Whose it is to be; absent for `personal` where a person asks, with a key or session of their own, else `service`,
    /// which takes the scope `keys:manage`.
    kind: Option<KeyKind>,
    /// Which models it may call, up to 32 patterns with up to 1,000 characters: `owner/name` (all versions of an adapter),
    /// `owner/name@1.2.0`, `owner/name@sha256:…`, `owner/name:tag`, `owner/*`, the id of a base model. Absent for all that
    /// the key may call that it is made with.
    #[schema(example = json!(["acme/sst2", "acme/tone:prod", "partner/*"]))]
    models: Option<Vec<String>>,
    /// When it stops working by itself (RFC 3339), not after the key that it is made with; absent for the same moment as
    /// that key, the last that the tenant's policy allows, or never.
    #[serde(default, with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    /// The id of the team whose limits bind a service's key, too; absent for none. A personal key is of the team that its person is
    /// of.
    team: Option<String>,
    /// The tenant that the key is for, by name; absent for the caller's own. Naming another takes the scope `admin`.
    tenant: Option<String>,
}

/// A new key.
#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedKey {
    /// The key itself. This is the only time that it is shown; absent from an answer that is repeated for an
    /// `Idempotency-Key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<String>,
    /// What is kept of it.
    #[serde(flatten)]
    pub(super) key: Key,
}

/// Makes an API key and shows it, once.
///
/// Scope: `keys:manage`; a person makes personal keys without it. A scope that the caller's key lacks answers 403
/// `scope_not_held`, a life longer than its own `expiry_not_held`, a model beyond its own list `model_not_held`, and what the
/// tenant's policy does not allow `against_policy`. A key that is revoked takes those with it that were made with it.
#[utoipa::path(
    post, path = "/keys", tag = "keys",
    params(IdempotencyKey),
    request_body = CreateKey,
    responses((status = 201, body = CreatedKey, description = "The key with its secret"), Problems)
)]
pub(crate) async fn create_key(
    Serving(registry): Serving,
    caller: Caller,
    once: Once,
    Body(request): Body<CreateKey>,
) -> Result<(StatusCode, Json<CreatedKey>), RegistryError> {
    let CreateKey { name, scopes, kind, models, expires_at, team, tenant } = request;
    let request = KeyRequest { name, whose: kind.map(Into::into), scopes, models, expires_at, tenant, team };
    // The answer that is kept has no secret.
    let kept = |row| CreatedKey { secret: None, key: Key::from(row) };
    let (row, secret) = registry.create_key(&caller.0, request, &once, kept).await?;
    Ok((StatusCode::CREATED, Json(CreatedKey { secret: Some(secret.expose().to_owned()), key: row.into() })))
}
