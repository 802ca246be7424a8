use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::error::RegistryError;
use crate::http::{PathOf, Problems, Serving, Session};

/// Which session.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct SessionPath {
    /// The session's id.
    session: String,
}

/// Ends one of the person's sessions, at once, with what it was exchanged for.
///
/// Needs a session.
#[utoipa::path(
    delete, path = "/auth/sessions/{session}", tag = "sessions",
    params(SessionPath),
    security(("session" = [])),
    responses((status = 204, description = "It is over"), Problems)
)]
pub(crate) async fn end_session(
    Serving(registry): Serving,
    session: Session,
    PathOf(path): PathOf<SessionPath>,
) -> Result<StatusCode, RegistryError> {
    registry.end_session(&session.0, &path.session).await?;
    Ok(StatusCode::NO_CONTENT)
}
