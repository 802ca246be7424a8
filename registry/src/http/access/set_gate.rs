use axum::Json;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Gate;
use crate::access::{Form, NewGate, Question};
use crate::error::RegistryError;
use crate::http::adapters::AdapterPath;
use crate::http::{Body, Caller, PathOf, Problems, Serving};

/// What is to be asked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetGate {
    /// Up to 20 questions, in their order.
    questions: Vec<Question>,
    /// Within how many days the owner means to answer, 1 to 90; absent for 14. Requests show it; nothing happens when it is over.
    #[serde(default = "fourteen")]
    answer_within_days: i64,
}

/// Sets what a gated adapter asks of who asks for access. Requests that were made keep the questions that they answered.
///
/// Scope: `adapters:write`.
#[utoipa::path(
    put, path = "/adapters/{owner}/{name}/gate", tag = "access",
    params(AdapterPath),
    request_body = SetGate,
    responses((status = 200, description = "The questions", body = Gate), Problems)
)]
pub(crate) async fn set_gate(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<AdapterPath>,
    Body(request): Body<SetGate>,
) -> Result<Json<Gate>, RegistryError> {
    let new = NewGate { form: Form(request.questions), answer_within_days: request.answer_within_days };
    Ok(Json(registry.set_gate(&caller.0, &path.owner, &path.name, new).await?.into()))
}

const fn fourteen() -> i64 {
    14
}
