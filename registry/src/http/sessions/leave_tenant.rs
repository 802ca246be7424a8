use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::without_session;
use crate::error::RegistryError;
use crate::http::{Problems, Serving, Session};

/// Leaves the tenant that the session acts for. All of the person's sessions end with it, and their own keys of the tenant.
///
/// Needs a session. The last owner stays: 409 `last_owner`.
#[utoipa::path(
    delete, path = "/auth/membership", tag = "sessions",
    security(("session" = [])),
    responses((status = 204, description = "The person is no member any more"), Problems)
)]
pub(crate) async fn leave_tenant(Serving(registry): Serving, session: Session) -> Result<Response, RegistryError> {
    let principal = session.0.principal().ok_or(RegistryError::NoTenant)?;
    registry.leave(&principal).await?;
    Ok((StatusCode::NO_CONTENT, without_session()).into_response())
}
