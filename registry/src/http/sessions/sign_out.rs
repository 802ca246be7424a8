use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::without_session;
use crate::error::RegistryError;
use crate::http::{Problems, Serving, Session};

/// Signs out: ends the session and what it was exchanged for.
///
/// Needs a session.
#[utoipa::path(
    delete, path = "/auth/session", tag = "sessions",
    security(("session" = [])),
    responses((status = 204, description = "The session is over"), Problems)
)]
pub(crate) async fn sign_out(Serving(registry): Serving, session: Session) -> Result<Response, RegistryError> {
    registry.end_session(&session.0, &session.0.session.id).await?;
    Ok((StatusCode::NO_CONTENT, without_session()).into_response())
}
