//! `Idempotency-Key`: a call that makes something can be repeated without making it twice.
//!
//! The first request with a key claims (tenant, route, key) with a row. A success is kept in that row for 24 hours and
//! repeated, with `idempotency-replayed: true`, to the same body; another body is 422, a request that arrives while
//! the first still runs 409. Anything but a success is not kept: the claim is dropped and a retry runs anew. A process
//! that is killed leaves its claims behind; the next start drops them.

use axum::body::{Body, to_bytes};
use axum::extract::{OriginalUri, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, DatabaseConnection, DbErr, EntityTrait as _, QueryFilter as _, Set,
};
use serde::Serialize;
use souk_protocol::{Digest, Principal};
use utoipa::IntoParams;

use crate::Registry;
use crate::auth::AuthError;
use crate::db::entities::idempotent_request;
use crate::db::{is_unique_violation, now_ms};
use crate::error::RegistryError;
use crate::http::JSON_BODY_BYTES;

/// How long an answer is kept.
const KEEP_MS: i64 = 24 * 60 * 60 * 1000;

/// Largest answer that is kept. Ours have a few KiB.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// Longest key, as Stripe has it.
const MAX_KEY_CHARS: usize = 255;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The header, for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only its shape is read, by the derive")]
pub(crate) struct IdempotencyKey {
    /// 1 to 255 characters of the caller's choice. A repetition with the same key and body within 24 hours makes nothing
    /// and hears the first answer, with `idempotency-replayed: true`; with another body it is 422
    /// `idempotency_mismatch`, and 409 `idempotency_in_flight` while the first still runs.
    #[param(rename = "Idempotency-Key")]
    idempotency_key: Option<String>,
}

/// A handler puts this beside its response when the answer to repeat is not the answer that it gives: a secret is
/// shown once and not kept.
#[derive(Clone, Debug)]
pub(crate) struct AnswerToKeep(String);

impl AnswerToKeep {
    pub(crate) fn new(body: &impl Serialize) -> Self {
        Self(serde_json::to_string(body).expect("answers have only text keys"))
    }
}

/// Middleware for routes with a JSON body: see the module.
pub(crate) async fn answer_once(
    State(registry): State<Registry>,
    request: Request,
    next: Next,
) -> Result<Response, RegistryError> {
    let Some(key) = key_of(request.headers())? else { return Ok(next.run(request).await) };
    let principal = request.extensions().get::<Principal>().ok_or(AuthError::Missing)?;
    let tenant_id = principal.tenant.to_string();
    let route = route_of(&request);
    let (parts, body) = request.into_parts();
    let too_large = |_| RegistryError::TooLarge { what: "the body".to_owned(), limit_bytes: JSON_BODY_BYTES as u64 };
    let body = to_bytes(body, JSON_BODY_BYTES).await.map_err(too_large)?;
    let body_digest = Digest::of(&body);
    match claim(&registry.db, tenant_id, route, key).await? {
        Claim::Kept(kept) => kept.answer(&body_digest),
        Claim::New(claim) => {
            let request = Request::from_parts(parts, Body::from(body));
            // A task of its own: what began is finished and kept also when the client goes away.
            let work = tokio::spawn(async move { claim.keep_success(&body_digest, next.run(request).await).await });
            work.await.unwrap_or_else(|error| Err(RegistryError::Storage(std::io::Error::other(error))))
        }
    }
}

/// The route that a key belongs to: the method and the path as called.
pub(crate) fn route_of(request: &Request) -> String {
    let path = request.extensions().get::<OriginalUri>().map_or_else(|| request.uri().path(), |uri| uri.0.path());
    format!("{} {path}", request.method())
}

/// The key that the caller chose, bare or in quotes.
pub(crate) fn key_of(headers: &HeaderMap) -> Result<Option<String>, RegistryError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let key = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    if (1..=MAX_KEY_CHARS).contains(&key.len()) {
        return Ok(Some(key.to_owned()));
    }
    let detail = format!("Idempotency-Key is 1 to {MAX_KEY_CHARS} ASCII characters, given {}", value.len());
    Err(RegistryError::bad_request("invalid_idempotency_key", detail))
}

/// What the first look at a key found.
pub(crate) enum Claim {
    /// Nobody used it: go on.
    New(OpenClaim),
    /// It was used, and this was the answer.
    Kept(KeptAnswer),
}

/// Takes the key, or finds out what it was used for.
pub(crate) async fn claim(
    db: &DatabaseConnection,
    tenant_id: String,
    route: String,
    idempotency_key: String,
) -> Result<Claim, RegistryError> {
    idempotent_request::Entity::delete_many()
        .filter(idempotent_request::Column::CreatedAtMs.lt(now_ms() - KEEP_MS))
        .exec(db)
        .await?;
    let row = idempotent_request::ActiveModel {
        tenant_id: Set(tenant_id.clone()),
        route: Set(route.clone()),
        idempotency_key: Set(idempotency_key.clone()),
        body_digest: Set(None),
        status: Set(None),
        response: Set(None),
        created_at_ms: Set(now_ms()),
    };
    let id = (tenant_id, route, idempotency_key);
    match row.insert(db).await {
        Ok(_) => return Ok(Claim::New(OpenClaim { db: db.clone(), id: Some(id) })),
        Err(error) if is_unique_violation(&error) => {}
        Err(error) => return Err(error.into()),
    }
    let row = idempotent_request::Entity::find_by_id(id).one(db).await?;
    // A row that is gone again belonged to a request that failed just now: the caller's retry will find it free.
    let Some(row) = row else { return Err(RegistryError::IdempotencyInFlight) };
    match (row.status, row.body_digest, row.response) {
        (Some(status), Some(body_digest), Some(response)) => {
            Ok(Claim::Kept(KeptAnswer { status, body_digest, response }))
        }
        _ => Err(RegistryError::IdempotencyInFlight),
    }
}

/// A claim whose request runs. Dropped without an answer, it sets the key free.
pub(crate) struct OpenClaim {
    db: DatabaseConnection,
    id: Option<(String, String, String)>,
}

impl OpenClaim {
    /// Keeps the answer if it is a success, and hands it on.
    pub(crate) async fn keep_success(
        self,
        body_digest: &Digest,
        response: Response,
    ) -> Result<Response, RegistryError> {
        if !response.status().is_success() {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, MAX_ANSWER_BYTES).await.map_err(std::io::Error::other)?;
        let kept = match parts.extensions.get::<AnswerToKeep>() {
            Some(AnswerToKeep(text)) => text.clone(),
            None => String::from_utf8_lossy(&body).into_owned(),
        };
        if let Err(error) = self.keep(body_digest, parts.status, kept).await {
            // The work is done and its answer true; only a repetition will not be recognised.
            tracing::error!(%error, "An answer could not be kept for its Idempotency-Key");
        }
        Ok(Response::from_parts(parts, Body::from(body)))
    }

    async fn keep(mut self, body_digest: &Digest, status: StatusCode, response: String) -> Result<(), DbErr> {
        let Some(id) = self.id.clone() else { return Ok(()) };
        idempotent_request::Entity::update_many()
            .col_expr(idempotent_request::Column::BodyDigest, body_digest.to_string().into())
            .col_expr(idempotent_request::Column::Status, i32::from(status.as_u16()).into())
            .col_expr(idempotent_request::Column::Response, response.into())
            .filter(idempotent_request::Column::TenantId.eq(id.0))
            .filter(idempotent_request::Column::Route.eq(id.1))
            .filter(idempotent_request::Column::IdempotencyKey.eq(id.2))
            .exec(&self.db)
            .await?;
        self.id = None;
        Ok(())
    }
}

impl Drop for OpenClaim {
    fn drop(&mut self) {
        let (Some(id), Ok(runtime)) = (self.id.take(), tokio::runtime::Handle::try_current()) else { return };
        let db = self.db.clone();
        runtime.spawn(async move {
            if let Err(error) = idempotent_request::Entity::delete_by_id(id).exec(&db).await {
                tracing::warn!(%error, "The claim of a failed request stays until the next start");
            }
        });
    }
}

/// An answer that was given before.
pub(crate) struct KeptAnswer {
    status: i32,
    body_digest: String,
    response: String,
}

impl KeptAnswer {
    /// The answer once more, if the request is the same.
    pub(crate) fn answer(self, body_digest: &Digest) -> Result<Response, RegistryError> {
        if self.body_digest != body_digest.to_string() {
            return Err(RegistryError::IdempotencyMismatch);
        }
        let status = u16::try_from(self.status).ok().and_then(|status| StatusCode::from_u16(status).ok());
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true")),
        ];
        Ok((status.unwrap_or(StatusCode::OK), headers, self.response).into_response())
    }
}
