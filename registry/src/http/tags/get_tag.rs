use axum::Json;
use axum::extract::State;
use sea_orm::EntityTrait as _;
use souk_protocol::Scope;

use super::{Tag, TagPath, existing_tag};
use crate::Registry;
use crate::db::entities::version;
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems};

/// Where a tag points.
///
/// Scope: `adapters:read`.
#[utoipa::path(
    get, path = "/adapters/{owner}/{name}/tags/{tag}", tag = "tags",
    params(TagPath),
    responses((status = 200, body = Tag), Problems)
)]
pub(crate) async fn get_tag(
    State(registry): State<Registry>,
    caller: Caller,
    PathOf(path): PathOf<TagPath>,
) -> Result<Json<Tag>, RegistryError> {
    caller.require(Scope::AdaptersRead)?;
    let adapter = registry.visible_adapter(&caller.0, &path.owner, &path.name).await?;
    let tag = existing_tag(&registry, &adapter, &path.tag).await?;
    let version = version::Entity::find_by_id(&tag.version_id).one(&registry.db).await?;
    let version = version.ok_or(RegistryError::NotFound { what: "tag", name: path.tag })?;
    Ok(Json(Tag::new(&adapter, tag, version)))
}
