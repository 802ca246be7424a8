use axum::Json;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{Membership, Person};
use crate::db::moment;
use crate::error::RegistryError;
use crate::http::{Problems, Serving, Session};

/// A session, as the person who has it sees it.
#[derive(Serialize, ToSchema)]
pub(crate) struct CurrentSession {
    /// Opaque id.
    id: String,
    /// Who is signed in.
    person: Person,
    /// The tenant that the session acts for; null for a person who is a member of none.
    tenant: Option<Membership>,
    /// All that it can act for, by name.
    tenants: Vec<Membership>,
    /// Whether it is bound to its tenant, since an owner of that made the link which it began with.
    is_confined: bool,
    /// When it is over in any case.
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
    /// To be sent as `x-csrf-token` with each call that changes something.
    csrf_token: String,
}

/// Who is signed in, and the token that changing calls bring.
///
/// Needs a session.
#[utoipa::path(
    get, path = "/auth/session", tag = "sessions",
    security(("session" = [])),
    responses((status = 200, description = "The session", body = CurrentSession), Problems)
)]
pub(crate) async fn get_session(Serving(registry): Serving, session: Session) -> Result<Response, RegistryError> {
    let signed_in = &*session.0;
    let tenants = registry.tenants_of(signed_in).await?;
    let answer = CurrentSession {
        id: signed_in.session.id.clone(),
        person: signed_in.person.clone().into(),
        tenant: signed_in.tenant.clone().map(Membership::from),
        tenants: tenants.into_iter().map(Membership::from).collect(),
        is_confined: signed_in.session.is_confined,
        expires_at: moment(signed_in.session.expires_at_ms),
        csrf_token: signed_in.csrf_token(),
    };
    Ok(([(CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}
