use axum::Json;
use serde::Deserialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{Grant, GrantPath};
use crate::access::NewGrant;
use crate::error::RegistryError;
use crate::http::{Body, Caller, PathOf, Problems, Serving};

/// How an adapter is granted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PutGrant {
    /// When it ends by itself (RFC 3339); null or absent for never.
    #[serde(default, with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    /// What its owner notes about it, in up to 500 characters. The tenant does not see it.
    #[serde(default)]
    #[schema(example = "contract 2026-17")]
    note: String,
}

/// Grants an adapter to a tenant, or changes when that ends and its note. It counts while the adapter is shared or gated.
///
/// Scope: `access:decide`; a gated adapter is granted by a person or an operator, else 403 `person_needed`.
#[utoipa::path(
    put, path = "/adapters/{owner}/{name}/grants/{tenant}", tag = "access",
    params(GrantPath),
    request_body = PutGrant,
    responses((status = 200, description = "The grant", body = Grant), Problems)
)]
pub(crate) async fn put_grant(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<GrantPath>,
    Body(request): Body<PutGrant>,
) -> Result<Json<Grant>, RegistryError> {
    let new = NewGrant { expires_at: request.expires_at, note: request.note };
    let grant = registry.put_grant(&caller.0, &path.owner, &path.name, &path.tenant, new).await?;
    Ok(Json(grant.into()))
}
