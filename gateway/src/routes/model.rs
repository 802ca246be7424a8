//! `GET /v1/models/{id}`.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::models::Model;
use super::url::PathOf;
use crate::auth::Caller;
use crate::call::authorise::CalledModel;
use crate::error::{ApiError, ErrorBody};
use crate::gateway::Gateway;

/// Says what a model reference means for the caller now.
///
/// Scope: `inference`. The id of an adapter contains a slash, written as it is or as
/// `%2F`.
#[utoipa::path(
    get,
    path = "/v1/models/{id}",
    tag = "inference",
    security(("api_key" = [])),
    params(("id" = String, Path, description = "A base model's id or an adapter reference")),
    responses(
        (status = 200, description = "The model", body = ModelDetail),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(crate) async fn retrieve_model(
    State(gateway): State<Gateway>,
    Caller { principal, .. }: Caller,
    PathOf(id): PathOf,
) -> Result<Json<ModelDetail>, ApiError> {
    let called = CalledModel::of(&gateway, &principal, &id).await?;
    let base = called.base.id.clone();
    let Some((adapter, _)) = called.adapters.into_iter().next() else {
        let model = Model::of_base(&called.base, &gateway);
        let digest = called.base.digest.to_string();
        return Ok(Json(ModelDetail { model, base, digest, version: None }));
    };
    let model = Model { id, ..gateway.catalog().entry(&principal, &adapter.name).await?.into() };
    let (digest, version) = (adapter.digest.to_string(), Some(adapter.version.to_string()));
    Ok(Json(ModelDetail { model, base, digest, version }))
}

/// A model and what its reference means now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ModelDetail {
    /// The official fields.
    #[serde(flatten)]
    pub model: Model,
    /// Id of the base model.
    pub base: String,
    /// Digest of the adapter's manifest, or of the base model's weights.
    pub digest: String,
    /// Version of the adapter; null for a base model.
    #[schema(required)]
    pub version: Option<String>,
}
