use axum::Json;
use axum::http::StatusCode;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{OfTenant, PersonPath};
use crate::db::{LinkRow, moment};
use crate::error::RegistryError;
use crate::http::{Caller, IdempotencyKey, PathOf, Problems, QueryOf, Serving};
use crate::idempotency::Once;

/// A link that signs a person in, once.
#[derive(Serialize, ToSchema)]
pub(crate) struct SignInLink {
    /// Its id.
    id: String,
    /// Whom it signs in.
    person: String,
    /// The address to open. This is the only time that it is shown; absent from an answer that is repeated for an
    /// `Idempotency-Key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    /// Whether the session that it begins acts for this tenant alone: so for all but operators.
    is_confined: bool,
    /// Until when it can be used.
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
}

impl SignInLink {
    fn new(row: LinkRow, link: Option<String>) -> Self {
        let (is_confined, expires_at) = (row.tenant_id.is_some(), moment(row.expires_at_ms));
        Self { id: row.id, person: row.person_id, link, is_confined, expires_at }
    }
}

/// Makes a link that signs a member in, once, and shows it, once. It takes the place of the member's other links.
///
/// Scope: `tenant:manage`, and those of the member's role (403 `scope_not_held`).
#[utoipa::path(
    post, path = "/members/{person}/sign-in-link", tag = "members",
    params(PersonPath, OfTenant, IdempotencyKey),
    responses((status = 201, description = "The link", body = SignInLink), Problems)
)]
pub(crate) async fn create_sign_in_link(
    Serving(registry): Serving,
    caller: Caller,
    once: Once,
    PathOf(path): PathOf<PersonPath>,
    QueryOf(of): QueryOf<OfTenant>,
) -> Result<(StatusCode, Json<SignInLink>), RegistryError> {
    let kept = |row| SignInLink::new(row, None);
    let (row, link) = registry.make_link(&caller.0, of.tenant(), &path.person, &once, kept).await?;
    Ok((StatusCode::CREATED, Json(SignInLink::new(row, Some(link)))))
}
