use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use souk_http::idempotency::IdempotencyKey;
use souk_protocol::{Scope, Scopes};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{Key, tenant_of_keys};
use crate::Registry;
use crate::auth::{NewKey, insert_key};
use crate::db::ms_of;
use crate::error::{Finding, RegistryError};
use crate::http::{Body, Caller, Problems};
use crate::idempotency::AnswerToKeep;

/// Longest name of a key.
const MAX_NAME_CHARS: usize = 100;

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateKey {
    /// 1 to 100 characters that tell its owner what it is for.
    name: String,
    /// What it may do: some of `inference`, `adapters:read`, `adapters:write`, `keys:manage`, `admin`, and none that
    /// the caller's own key lacks.
    scopes: Vec<String>,
    /// When it stops working by itself (RFC 3339); absent for never.
    #[serde(default, with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    /// The tenant that the key is for, by name; absent for the caller's own. Naming another takes the scope `admin`.
    tenant: Option<String>,
}

/// A new key.
#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedKey {
    /// The key itself. This is the only time that it is shown; absent from an answer that is repeated for an
    /// `Idempotency-Key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// What is kept of it.
    #[serde(flatten)]
    key: Key,
}

/// Makes an API key and shows it, once.
///
/// Scope: `keys:manage`. A scope that the caller lacks answers 403 `scope_not_held`.
#[utoipa::path(
    post, path = "/keys", tag = "keys",
    params(IdempotencyKey),
    request_body = CreateKey,
    responses((status = 201, body = CreatedKey), Problems)
)]
pub(crate) async fn create_key(
    State(registry): State<Registry>,
    caller: Caller,
    Body(request): Body<CreateKey>,
) -> Result<Response, RegistryError> {
    caller.require(Scope::KeysManage)?;
    let new_key = NewKey {
        scopes: check_fields(&request)?,
        tenant_id: tenant_of_keys(&registry, &caller.0, request.tenant.as_deref()).await?,
        name: request.name,
        expires_at_ms: request.expires_at.map(ms_of),
    };
    if let Some(missing) = new_key.scopes.iter().find(|scope| !caller.0.may(**scope)) {
        return Err(RegistryError::ScopeNotHeld(*missing));
    }
    let (row, secret) = insert_key(&registry.db, &registry.authenticator, new_key).await?;
    tracing::info!(key.id = row.id, key.scopes = row.scopes, "Made a key");
    let shown = CreatedKey { secret: Some(secret.expose().to_owned()), key: row.clone().into() };
    let kept = CreatedKey { secret: None, key: row.into() };
    Ok((StatusCode::CREATED, Extension(AnswerToKeep::new(&kept)), Json(shown)).into_response())
}

fn check_fields(request: &CreateKey) -> Result<Scopes, RegistryError> {
    let mut findings = Vec::new();
    let num_chars = request.name.chars().count();
    if !(1..=MAX_NAME_CHARS).contains(&num_chars) {
        findings.push(Finding::field("name", format!("1 to {MAX_NAME_CHARS} characters, given {num_chars}")));
    }
    let mut scopes = Scopes::new();
    for (index, text) in request.scopes.iter().enumerate() {
        match text.parse::<Scope>() {
            Ok(scope) => _ = scopes.insert(scope),
            Err(error) => findings.push(Finding::field(format!("scopes[{index}]"), error.to_string())),
        }
    }
    if request.scopes.is_empty() {
        findings.push(Finding::field("scopes", "at least one scope, given none"));
    }
    if request.expires_at.is_some_and(|moment| moment <= OffsetDateTime::now_utc()) {
        findings.push(Finding::field("expires_at", "a moment in the future"));
    }
    RegistryError::unless_valid(findings)?;
    Ok(scopes)
}
