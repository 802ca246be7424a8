use axum::Json;

use super::{AdapterVersionPath, Pipeline, TargetPath};
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems, Serving};
use crate::rights::Action;

/// The hooks that act on all requests of the tenant, of one of its keys, or by a route.
///
/// Scope: `tenant:manage`. A target without any has no steps.
#[utoipa::path(
    get, path = "/pipelines/{at}/{target}", tag = "pipelines",
    params(TargetPath),
    responses((status = 200, description = "The pipeline", body = Pipeline), Problems)
)]
pub(crate) async fn get_pipeline(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<TargetPath>,
) -> Result<Json<Pipeline>, RegistryError> {
    Ok(Json(registry.pipeline(&caller.0, Action::GetPipeline, path.target()).await?.into()))
}

/// The hooks that act on the requests of whoever calls a version of one of the tenant's adapters.
///
/// Scope: `adapters:write`. A version without any has no steps.
#[utoipa::path(
    get, path = "/adapters/{owner}/{name}/versions/{version}/pipeline", tag = "pipelines",
    params(AdapterVersionPath),
    responses((status = 200, description = "The pipeline", body = Pipeline), Problems)
)]
pub(crate) async fn get_version_pipeline(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<AdapterVersionPath>,
) -> Result<Json<Pipeline>, RegistryError> {
    Ok(Json(registry.pipeline(&caller.0, Action::GetVersionPipeline, path.target()).await?.into()))
}
