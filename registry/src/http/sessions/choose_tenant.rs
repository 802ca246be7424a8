use axum::Json;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Membership;
use crate::error::RegistryError;
use crate::http::page::{MAX_NAME_CHARS, check_length};
use crate::http::{Body, Problems, Serving, Session};

/// The tenant to act for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChooseTenant {
    /// Its name. The person has to be a member.
    tenant: String,
}

/// Lets the session act for another tenant of the person's from now on.
///
/// Needs a session; one that is confined to its tenant answers 403 `session_confined`.
#[utoipa::path(
    post, path = "/auth/session/tenant", tag = "sessions",
    request_body = ChooseTenant,
    security(("session" = [])),
    responses((status = 200, description = "What the person is there", body = Membership), Problems)
)]
pub(crate) async fn choose_tenant(
    Serving(registry): Serving,
    session: Session,
    Body(request): Body<ChooseTenant>,
) -> Result<Json<Membership>, RegistryError> {
    check_length("tenant", Some(&request.tenant), MAX_NAME_CHARS)?;
    Ok(Json(registry.choose_tenant(&session.0, &request.tenant).await?.into()))
}
