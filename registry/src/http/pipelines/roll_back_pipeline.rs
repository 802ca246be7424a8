use axum::Json;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{AdapterVersionPath, Pipeline, TargetPath};
use crate::error::RegistryError;
use crate::http::{Body, Caller, PathOf, Problems, Serving};
use crate::rights::Action;

/// What to go back to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RollBack {
    /// The number of a pipeline that the target had.
    number: i64,
}

/// Goes back to a pipeline that the target had: a new change with the same steps.
///
/// Scope: `tenant:manage`. Steps that are as they are now change nothing.
#[utoipa::path(
    post, path = "/pipelines/{at}/{target}/roll-back", tag = "pipelines",
    params(TargetPath),
    request_body = RollBack,
    responses((status = 200, description = "The pipeline as it is now", body = Pipeline), Problems)
)]
pub(crate) async fn roll_back_pipeline(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<TargetPath>,
    Body(request): Body<RollBack>,
) -> Result<Json<Pipeline>, RegistryError> {
    let action = Action::RollBackPipeline;
    Ok(Json(registry.roll_back_pipeline(&caller.0, action, path.target(), request.number).await?.into()))
}

/// Goes back to a pipeline that a version of an adapter had: a new change with the same steps.
///
/// Scope: `adapters:write`. Steps that are as they are now change nothing.
#[utoipa::path(
    post, path = "/adapters/{owner}/{name}/versions/{version}/pipeline/roll-back", tag = "pipelines",
    params(AdapterVersionPath),
    request_body = RollBack,
    responses((status = 200, description = "The pipeline as it is now", body = Pipeline), Problems)
)]
pub(crate) async fn roll_back_version_pipeline(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<AdapterVersionPath>,
    Body(request): Body<RollBack>,
) -> Result<Json<Pipeline>, RegistryError> {
    let action = Action::RollBackVersionPipeline;
    Ok(Json(registry.roll_back_pipeline(&caller.0, action, path.target(), request.number).await?.into()))
}
