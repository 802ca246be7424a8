use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::Registry;
use crate::http::Problems;

/// A base model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BaseModelView {
    /// What a caller writes in `model`.
    id: String,
    /// SHA-256 over its weights.
    digest: String,
    /// Names in `base_model_name_or_path` that mean it, beside its id.
    aliases: Vec<String>,
    /// Number of layers.
    num_layers: usize,
    /// Width of the residual stream.
    hidden_size: usize,
    /// Longest context in tokens.
    context_length: usize,
}

/// All base models of this installation.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BaseModels {
    /// The models.
    data: Vec<BaseModelView>,
}

/// The base models that uploads are checked against.
///
/// No key is needed.
#[utoipa::path(
    get, path = "/base-models", tag = "base models",
    responses((status = 200, body = BaseModels, description = "The base models"), Problems),
    security(())
)]
pub(crate) async fn list_base_models(State(registry): State<Registry>) -> Json<BaseModels> {
    let data = registry.bases.iter().map(|base| BaseModelView {
        id: base.id.clone(),
        digest: base.digest.to_string(),
        aliases: base.aliases.clone(),
        num_layers: base.shape.num_layers,
        hidden_size: base.shape.hidden_size,
        context_length: base.shape.context_length,
    });
    Json(BaseModels { data: data.collect() })
}
