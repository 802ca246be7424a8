use axum::http::StatusCode;

use super::TagPath;
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems, Serving};

/// Deletes a tag. The version that it pointed at stays; the tag's name may be used again.
///
/// Scope: `adapters:write`.
#[utoipa::path(
    delete, path = "/adapters/{owner}/{name}/tags/{tag}", tag = "tags",
    params(TagPath),
    responses((status = 204, description = "The tag is gone"), Problems)
)]
pub(crate) async fn delete_tag(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<TagPath>,
) -> Result<StatusCode, RegistryError> {
    registry.delete_tag(&caller.0, &path.owner, &path.name, &path.tag).await?;
    Ok(StatusCode::NO_CONTENT)
}
