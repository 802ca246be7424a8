//! `GET /v1/models/{id}`.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use souk_protocol::{Principal, ResolvedAdapter, Scope};
use souk_queue::AdapterTier;
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
/// `%2F`. Where an adapter is in the memory of nodes is for its owner and for operators.
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
        return Ok(Json(ModelDetail { model, base, digest, version: None, warm: None }));
    };
    let model = Model { id, ..gateway.catalog().entry(&principal, &adapter.name).await?.into() };
    let warm = may_see_nodes(&principal, &adapter).then(|| {
        let nodes = gateway.lanes_of(&called.base).warm(&adapter.digest).into_iter();
        nodes.map(|(node, tier)| WarmNode { node: node.to_string(), tier: tier.into() }).collect()
    });
    let (digest, version) = (adapter.digest.to_string(), Some(adapter.version.to_string()));
    Ok(Json(ModelDetail { model, base, digest, version, warm }))
}

/// Whether a caller may know which nodes have an adapter: whose it is, and who runs the nodes.
fn may_see_nodes(caller: &Principal, adapter: &ResolvedAdapter) -> bool {
    caller.scopes.contains(&Scope::Admin) || caller.tenant_name == adapter.name.owner()
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
    /// Nodes that have the adapter in memory, as they said last, at most a few seconds ago. For the adapter's owner and for
    /// operators; absent for others, and for a base model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warm: Option<Vec<WarmNode>>,
}

/// A node that has an adapter in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WarmNode {
    /// The node's id.
    pub node: String,
    /// Where in its memory.
    pub tier: WarmTier,
}

/// Where in a node's memory an adapter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WarmTier {
    /// Where the model runs: a request begins at once.
    Device,
    /// Packed, in main memory: it comes to the device before a request begins.
    Host,
}

impl From<AdapterTier> for WarmTier {
    fn from(tier: AdapterTier) -> Self {
        match tier {
            AdapterTier::Device => Self::Device,
            AdapterTier::Host => Self::Host,
        }
    }
}
