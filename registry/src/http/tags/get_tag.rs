use axum::Json;

use super::{Tag, TagPath};
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems, Serving};

/// Where a tag points.
///
/// Scope: `adapters:read`.
#[utoipa::path(
    get, path = "/adapters/{owner}/{name}/tags/{tag}", tag = "tags",
    params(TagPath),
    responses((status = 200, body = Tag, description = "The tag"), Problems)
)]
pub(crate) async fn get_tag(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<TagPath>,
) -> Result<Json<Tag>, RegistryError> {
    let tag = registry.get_tag(&caller.0, &path.owner, &path.name, &path.tag).await?;
    Ok(Json(tag.into()))
}
