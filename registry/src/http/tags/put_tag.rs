use axum::Json;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Tag, TagPath};
use crate::error::RegistryError;
use crate::http::{Body, Caller, PathOf, Problems, Serving};

/// Where a tag is to point.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PutTag {
    /// The number of a ready version of the same adapter.
    version: String,
}

/// Points a tag at a version, making it if it does not exist.
///
/// Scope: `adapters:write`. A version that is not ready answers 409 `wrong_state`.
#[utoipa::path(
    put, path = "/adapters/{owner}/{name}/tags/{tag}", tag = "tags",
    params(TagPath),
    request_body = PutTag,
    responses((status = 200, body = Tag, description = "The tag as it is now"), Problems)
)]
pub(crate) async fn put_tag(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<TagPath>,
    Body(request): Body<PutTag>,
) -> Result<Json<Tag>, RegistryError> {
    let tag = registry.put_tag(&caller.0, &path.owner, &path.name, &path.tag, &request.version).await?;
    Ok(Json(tag.into()))
}
