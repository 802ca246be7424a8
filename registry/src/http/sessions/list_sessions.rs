use axum::Json;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::db::moment;
use crate::error::RegistryError;
use crate::http::{Page, Problems, Serving, Session};

/// One of a person's sessions.
#[derive(Serialize, ToSchema)]
pub(crate) struct OwnSession {
    /// Opaque id.
    id: String,
    /// Whether it is the one that asks.
    is_this: bool,
    /// How it began: `provider`, `link` or `invitation`.
    #[schema(example = "provider")]
    signed_in_by: String,
    /// What the browser called itself; null if it said nothing.
    client: Option<String>,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// When it was last used, to the minute.
    #[serde(with = "time::serde::rfc3339")]
    used_at: OffsetDateTime,
    /// When it is over in any case.
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
}

/// The person's sessions that live, newest first, on one page.
///
/// Needs a session.
#[utoipa::path(
    get, path = "/auth/sessions", tag = "sessions",
    security(("session" = [])),
    responses((status = 200, description = "All of them", body = Page<OwnSession>), Problems)
)]
pub(crate) async fn list_sessions(
    Serving(registry): Serving,
    session: Session,
) -> Result<Json<Page<OwnSession>>, RegistryError> {
    let rows = registry.own_sessions(&session.0).await?;
    let own = rows.into_iter().map(|row| OwnSession {
        is_this: row.id == session.0.session.id,
        id: row.id,
        signed_in_by: row.signed_in_by,
        client: row.client,
        created_at: moment(row.created_at_ms),
        used_at: moment(row.used_at_ms),
        expires_at: moment(row.expires_at_ms),
    });
    Ok(Json(Page { data: own.collect(), next_cursor: None }))
}
