//! `GET /v1/models`.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Caller;
use crate::catalog::ModelEntry;
use crate::error::{ApiError, ErrorBody};
use crate::gateway::Gateway;
use crate::served::ServedBase;

/// Who base models belong to, as far as this API is concerned.
const BASE_OWNER: &str = "souk";

/// Lists the models that the caller may name: base models, then adapters.
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "inference",
    security(("api_key" = [])),
    responses(
        (status = 200, description = "The models", body = ModelList),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(crate) async fn list_models(
    State(gateway): State<Gateway>,
    Caller(principal): Caller,
) -> Result<Json<ModelList>, ApiError> {
    let bases = gateway.bases().iter().map(|base| Model::of_base(base, &gateway));
    let adapters = gateway.catalog().list(&principal).await?.into_iter().map(Model::from);
    Ok(Json(ModelList { object: "list", data: bases.chain(adapters).collect() }))
}

/// A list of models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ModelList {
    /// `list`.
    pub object: &'static str,
    /// Base models, then adapters that the caller may use.
    pub data: Vec<Model>,
}

/// A model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Model {
    /// What callers write in `model`.
    pub id: String,
    /// `model`.
    pub object: &'static str,
    /// When it was published, in seconds since the Unix epoch; of a base model, since when it is served.
    pub created: u64,
    /// The tenant that published it.
    pub owned_by: String,
}

impl Model {
    pub(super) fn of_base(base: &ServedBase, gateway: &Gateway) -> Self {
        Self {
            id: base.id.clone(),
            object: "model",
            created: gateway.started_unix_s(),
            owned_by: BASE_OWNER.to_owned(),
        }
    }
}

impl From<ModelEntry> for Model {
    fn from(entry: ModelEntry) -> Self {
        Self { id: entry.id, object: "model", created: entry.created_unix_s, owned_by: entry.owner }
    }
}
