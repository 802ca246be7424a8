use axum::Json;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Membership;
use crate::error::RegistryError;
use crate::http::{Body, Problems, Serving, Session};
use crate::people::Role;

/// A tenant of one's own.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MakeOwnTenant {
    /// 1 to 64 of a-z, 0-9, `-`, `_`, `.`, beginning with a letter or digit. It cannot be changed.
    name: String,
}

/// Makes a tenant whose owner is the person who is signed in; the session then acts for it.
///
/// Needs a session, and an installation where people make tenants by themselves: else 403 `self_service_off`. A name that
/// is taken answers 409 `already_exists`.
#[utoipa::path(
    post, path = "/auth/tenants", tag = "sessions",
    request_body = MakeOwnTenant,
    security(("session" = [])),
    responses((status = 201, description = "What the person is there", body = Membership), Problems)
)]
pub(crate) async fn make_own_tenant(
    Serving(registry): Serving,
    session: Session,
    Body(request): Body<MakeOwnTenant>,
) -> Result<(StatusCode, Json<Membership>), RegistryError> {
    let tenant = registry.make_own_tenant(&session.0.session, &request.name).await?;
    Ok((StatusCode::CREATED, Json(Membership::from((tenant, Role::Owner)))))
}
