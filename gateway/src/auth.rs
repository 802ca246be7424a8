//! Who is calling and what binds it, checked before anything of the body is read.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use souk_http::bearer::{self, BearerError};
use souk_http::idempotency;
use souk_protocol::gate::Weight;
use souk_protocol::{LimitTree, Principal, Scope};
use tokio::time::Instant;
use utoipa::IntoParams;

use crate::call::gates::Holder;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::metrics::{self, Stage};

/// A caller whose key may call models.
pub(crate) struct Caller {
    pub(crate) principal: Principal,
    /// What binds it, looked up once for a request.
    pub(crate) tree: Arc<LimitTree>,
    /// As what it counts at gates.
    pub(crate) holder: Holder,
}

impl FromRequestParts<Gateway> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, ApiError> {
        let key = bearer::token(&parts.headers).map_err(|error| match error {
            BearerError::Missing => ApiError::NoKey,
            BearerError::Malformed => ApiError::InvalidKey,
        })?;
        let began = Instant::now();
        let principal = gateway.catalog().authenticate(key).await?;
        if !principal.may(Scope::Inference) {
            return Err(ApiError::MissingScope(Scope::Inference));
        }
        let tree = gateway.catalog().limits(&principal).await?;
        metrics::stage(Stage::Authenticate, began.elapsed());
        let holder = Holder { tenant: principal.tenant.clone(), weight: Weight::nearest(tree.gate_weight) };
        // Its body counts as this one's.
        parts.extensions.insert(holder.clone());
        Ok(Self { principal, tree, holder })
    }
}

/// The header of a request that may be repeated, for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only its shape is read, by the derive")]
pub(crate) struct RepeatParams {
    /// 1 to 255 characters of the caller's choice, for a request that is run and charged once however often it is sent within 24
    /// hours. While the first runs, a repetition is 409 `idempotency_in_flight`; then it hears the first answer, with
    /// `idempotency-replayed: true`, where the tenant has answers kept and it is a whole one of at most 64 KiB, else it is 409
    /// `idempotency_answer_not_kept`. With another body it is 422 `idempotency_mismatch`. A request that was not charged may be
    /// repeated.
    #[param(rename = "Idempotency-Key")]
    idempotency_key: Option<String>,
}

/// The `Idempotency-Key` of a request, if it has one.
pub(crate) struct RepeatHeader(pub(crate) Option<String>);

impl FromRequestParts<Gateway> for RepeatHeader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _gateway: &Gateway) -> Result<Self, ApiError> {
        let key = idempotency::key(&parts.headers);
        let key = key.map_err(|error| ApiError::invalid("Idempotency-Key", format!("{error}.")))?;
        Ok(Self(key.map(str::to_owned)))
    }
}
