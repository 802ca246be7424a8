use axum::extract::State;
use axum::http::StatusCode;
use sea_orm::ModelTrait as _;
use souk_protocol::Scope;

use super::{TagPath, existing_tag};
use crate::Registry;
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems};

/// Deletes a tag. The version that it pointed at stays; the tag's name may be used again.
///
/// Scope: `adapters:write`.
#[utoipa::path(
    delete, path = "/adapters/{owner}/{name}/tags/{tag}", tag = "tags",
    params(TagPath),
    responses((status = 204, description = "The tag is gone"), Problems)
)]
pub(crate) async fn delete_tag(
    State(registry): State<Registry>,
    caller: Caller,
    PathOf(path): PathOf<TagPath>,
) -> Result<StatusCode, RegistryError> {
    caller.require(Scope::AdaptersWrite)?;
    let adapter = registry.owned_adapter(&caller.0, &path.owner, &path.name).await?;
    existing_tag(&registry, &adapter, &path.tag).await?.delete(&registry.db).await?;
    Ok(StatusCode::NO_CONTENT)
}
