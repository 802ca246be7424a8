use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::Registry;
use crate::db::moment;
use crate::error::RegistryError;
use crate::http::{Body, Problem, Problems, Sender};

/// A code to be exchanged.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FinishLogin {
    /// What the browser brought to the program's port.
    code: String,
    /// What the program made up, of which it had the browser bring the hash.
    verifier: String,
}

/// A personal key.
#[derive(Serialize, ToSchema)]
pub(crate) struct LoginKey {
    /// The key itself. This is the only time that it is shown.
    secret: String,
    /// Its public half.
    id: String,
    /// The tenant that it is for.
    tenant: String,
    /// When it stops working by itself.
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
}

/// Exchanges the code of `souk login` for a key of the person who let it have one. The code is good for a minute, once.
///
/// A code that is not known, was used, is too old or was made for another program is 404.
#[utoipa::path(
    post, path = "/auth/login", tag = "auth",
    request_body = FinishLogin,
    security(()),
    responses(
        (status = 201, description = "The key, to be kept by nobody else", body = LoginKey),
        Problems,
        (status = 403, body = Problem, content_type = "application/problem+json",
            description = "The tenant's policy allows no keys of persons, or none that may what the role says"),
        (status = 404, body = Problem, content_type = "application/problem+json",
            description = "The code is not known, was used, is too old or was made for another program")
    )
)]
pub(crate) async fn finish_login(
    State(registry): State<Registry>,
    sender: Sender,
    Body(request): Body<FinishLogin>,
) -> Result<Response, RegistryError> {
    registry.one_more_attempt(sender.0)?;
    let granted = registry.for_no_tenant().exchange_code(&request.code, &request.verifier).await?;
    let answer = LoginKey {
        secret: granted.secret.expose().to_owned(),
        id: granted.row.id,
        tenant: granted.tenant.name,
        expires_at: moment(granted.row.expires_at_ms.unwrap_or(i64::MAX)),
    };
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}
