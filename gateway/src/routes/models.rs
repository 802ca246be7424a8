//! `GET /v1/models`.

use axum::Json;
use axum::extract::State;
use axum::http::header::LINK;
use axum::http::{HeaderMap, HeaderValue};
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Caller;
use crate::catalog::ModelEntry;
use crate::error::{ApiError, ErrorBody};
use crate::gateway::Gateway;
use crate::served::ServedBase;

/// Who base models belong to, as far as this API is concerned.
const BASE_OWNER: &str = "souk";

/// Lists the models that the caller may name: base models, then adapters, which are the caller's own and public ones of
/// others.
///
/// Scope: `inference`. Of public ones of others there are at most as many as the operator set; the header `Link` (`rel="next"`) then names the
/// registry's page that goes on, which takes a key with the scope `adapters:read`. A key with a list of models sees those on
/// it alone.
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "inference",
    security(("api_key" = [])),
    responses(
        (status = 200, description = "The models", body = ModelList,
         headers(("link" = String, description = "Where further public adapters are, if there are"))),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(crate) async fn list_models(
    State(gateway): State<Gateway>,
    Caller { principal, .. }: Caller,
) -> Result<(HeaderMap, Json<ModelList>), ApiError> {
    let allowed = |base: &ServedBase| principal.models.as_ref().is_none_or(|models| models.allow_base(&base.id));
    let bases = gateway.bases().iter().filter(|base| allowed(base)).map(|base| Model::of_base(base, &gateway));
    let page = gateway.catalog().list(&principal, gateway.limits().listed_models).await?;
    let mut headers = HeaderMap::new();
    if let Some(next) = page.next {
        let link = HeaderValue::try_from(format!("<{next}>; rel=\"next\"")).map_err(ApiError::internal)?;
        headers.insert(LINK, link);
    }
    let data = bases.chain(page.entries.into_iter().map(Model::from)).collect();
    Ok((headers, Json(ModelList { object: "list", data })))
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
    /// When it was made, in seconds since the Unix epoch; of a base model, since when it is served.
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
