use axum::Json;
use serde::Deserialize;
use serde_json::Value;
use souk_protocol::hooks::Share;
use utoipa::ToSchema;

use super::{AdapterVersionPath, Failing, LotShare, Pipeline, TargetPath};
use crate::error::RegistryError;
use crate::hooks::NewStep;
use crate::http::{Body, Caller, PathOf, Problems, Serving};
use crate::rights::Action;

/// Steps in the place of those before.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetPipeline {
    /// At most 8, in the order in which they act on a prompt; none to detach all.
    steps: Vec<AskedStep>,
}

/// A step to be attached.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AskedStep {
    /// `owner/name@1.2.0`, `owner/name@sha256:…`, or `owner/name` for what that means now. The step is pinned to that version.
    #[schema(example = "acme/mask@1.0.0")]
    hook: String,
    /// How the hook is configured here: an object of up to 16 KiB that fits the schema which the hook gives. `{}` if absent.
    #[schema(value_type = Option<Object>)]
    config: Option<Value>,
    /// What becomes of a request if it fails; `fail_closed` if absent.
    #[serde(default)]
    on_failure: Failing,
    /// Which requests it acts on; all if absent.
    share: Option<LotShare>,
}

impl From<AskedStep> for NewStep {
    fn from(AskedStep { hook, config, on_failure, share }: AskedStep) -> Self {
        Self { hook, config, on_failure: on_failure.into(), share: share.map_or(Share::ALL, Share::from) }
    }
}

/// Sets which hooks act on all requests of the tenant, of one of its keys, or by a route. They act on the next request, within a
/// second everywhere.
///
/// Scope: `tenant:manage`. A hook that the tenant may not see answers 404, one that was taken down 410; steps that are as they
/// were change nothing.
#[utoipa::path(
    put, path = "/pipelines/{at}/{target}", tag = "pipelines",
    params(TargetPath),
    request_body = SetPipeline,
    responses((status = 200, description = "The pipeline as it is now", body = Pipeline), Problems)
)]
pub(crate) async fn set_pipeline(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<TargetPath>,
    Body(request): Body<SetPipeline>,
) -> Result<Json<Pipeline>, RegistryError> {
    let steps = request.steps.into_iter().map(NewStep::from).collect();
    Ok(Json(registry.set_pipeline(&caller.0, Action::SetPipeline, path.target(), steps).await?.into()))
}

/// Sets which hooks act on the requests of whoever calls a version of one of the tenant's adapters: the prompt format that it was
/// trained on, for example. They act on the next request, within a second everywhere.
///
/// Scope: `adapters:write`. A hook that the tenant may not see answers 404, one that was taken down 410; steps that are as they
/// were change nothing.
#[utoipa::path(
    put, path = "/adapters/{owner}/{name}/versions/{version}/pipeline", tag = "pipelines",
    params(AdapterVersionPath),
    request_body = SetPipeline,
    responses((status = 200, description = "The pipeline as it is now", body = Pipeline), Problems)
)]
pub(crate) async fn set_version_pipeline(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<AdapterVersionPath>,
    Body(request): Body<SetPipeline>,
) -> Result<Json<Pipeline>, RegistryError> {
    let steps = request.steps.into_iter().map(NewStep::from).collect();
    Ok(Json(registry.set_pipeline(&caller.0, Action::SetVersionPipeline, path.target(), steps).await?.into()))
}
