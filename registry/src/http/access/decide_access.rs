use axum::Json;
use serde::Deserialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{AccessRequest, AccessRequestPath};
use crate::access::{Decision, NewGrant, Step};
use crate::error::RegistryError;
use crate::http::{Body, Caller, PathOf, Problems, Serving};

/// How access is granted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApproveAccess {
    /// When the access ends by itself (RFC 3339); null or absent for never.
    #[serde(default, with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    /// What the owner notes about it, in up to 500 characters. The tenant that asked does not see it.
    #[serde(default)]
    note: String,
    /// What the tenant is told, in 1 to 1,000 characters; absent for nothing.
    reason: Option<String>,
}

/// Why access is not granted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RejectAccess {
    /// What the tenant is told, in 1 to 1,000 characters.
    reason: String,
}

/// Why access is taken back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RevokeAccess {
    /// What the tenant is told, in 1 to 1,000 characters; absent for nothing.
    reason: Option<String>,
}

/// Grants what a request asks for. Of two who decide at once one does; the other hears 409 `wrong_state`.
///
/// Scope: `access:decide` of a person of the tenant whose adapter it is, or `admin`.
#[utoipa::path(
    post, path = "/access-requests/{request}/approve", tag = "access",
    params(AccessRequestPath),
    request_body = ApproveAccess,
    responses((status = 200, description = "The request", body = AccessRequest), Problems)
)]
pub(crate) async fn approve_access(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<AccessRequestPath>,
    Body(request): Body<ApproveAccess>,
) -> Result<Json<AccessRequest>, RegistryError> {
    let grant = NewGrant { expires_at: request.expires_at, note: request.note };
    let decision = Decision { step: Step::Approve, grant, reason: request.reason };
    Ok(Json(registry.decide(&caller.0, &path.request, decision).await?.into()))
}

/// Does not grant what a request asks for. The tenant may ask again.
///
/// Scope: `access:decide` of a person of the tenant whose adapter it is, or `admin`.
#[utoipa::path(
    post, path = "/access-requests/{request}/reject", tag = "access",
    params(AccessRequestPath),
    request_body = RejectAccess,
    responses((status = 200, description = "The request", body = AccessRequest), Problems)
)]
pub(crate) async fn reject_access(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<AccessRequestPath>,
    Body(request): Body<RejectAccess>,
) -> Result<Json<AccessRequest>, RegistryError> {
    let decision = Decision { step: Step::Reject, grant: NewGrant::default(), reason: Some(request.reason) };
    Ok(Json(registry.decide(&caller.0, &path.request, decision).await?.into()))
}

/// Takes back what was granted for a request: the tenant calls the adapter no more from the next request on, and its running
/// answers end as if the version had been taken down.
///
/// Scope: `access:decide` of a person of the tenant whose adapter it is, or `admin`.
#[utoipa::path(
    post, path = "/access-requests/{request}/revoke", tag = "access",
    params(AccessRequestPath),
    request_body = RevokeAccess,
    responses((status = 200, description = "The request", body = AccessRequest), Problems)
)]
pub(crate) async fn revoke_access(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<AccessRequestPath>,
    Body(request): Body<RevokeAccess>,
) -> Result<Json<AccessRequest>, RegistryError> {
    let decision = Decision { step: Step::Revoke, grant: NewGrant::default(), reason: request.reason };
    Ok(Json(registry.decide(&caller.0, &path.request, decision).await?.into()))
}

/// Takes a request back, or gives up what was granted for it.
///
/// Scope: `adapters:read` of the tenant that asked.
#[utoipa::path(
    post, path = "/access-requests/{request}/withdraw", tag = "access",
    params(AccessRequestPath),
    responses((status = 200, description = "The request", body = AccessRequest), Problems)
)]
pub(crate) async fn withdraw_access_request(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<AccessRequestPath>,
) -> Result<Json<AccessRequest>, RegistryError> {
    let decision = Decision { step: Step::Withdraw, grant: NewGrant::default(), reason: None };
    Ok(Json(registry.decide(&caller.0, &path.request, decision).await?.into()))
}
