use axum::Json;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{SubjectLimits, given};
use crate::error::RegistryError;
use crate::http::members::OfTenant;
use crate::http::{Body, Caller, Problems, QueryOf, Serving};
use crate::limits::AnswersRequest;

/// What is to change; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetAnswers {
    /// Most tokens of one answer, at all and where a request says nothing: from 1; null for the installation's default.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>, example = 1024)]
    output_ceiling: Option<Value>,
    /// Whether whole answers to requests with an `Idempotency-Key` may be kept for a day, to be given again.
    keeps_answers: Option<bool>,
}

/// Sets what the tenant's answers may be: how long, and whether they may be kept.
///
/// Scope: `tenant:manage`.
#[utoipa::path(
    patch, path = "/limits/answers", tag = "limits",
    params(OfTenant),
    request_body = SetAnswers,
    responses((status = 200, description = "The tenant's limits as they are now", body = SubjectLimits), Problems)
)]
pub(crate) async fn set_answers(
    Serving(registry): Serving,
    caller: Caller,
    QueryOf(of): QueryOf<OfTenant>,
    Body(request): Body<SetAnswers>,
) -> Result<Json<SubjectLimits>, RegistryError> {
    let SetAnswers { output_ceiling, keeps_answers } = request;
    let request = AnswersRequest { output_ceiling, keeps_answers };
    Ok(Json(registry.set_answers(&caller.0, of.tenant(), request).await?.into()))
}
