use axum::Json;
use axum::extract::State;
use sea_orm::sea_query::OnConflict;
use sea_orm::{EntityTrait as _, Set};
use serde::Deserialize;
use souk_protocol::Scope;
use souk_protocol::reference::check_name_part;
use utoipa::ToSchema;

use super::{Tag, TagPath, existing_tag};
use crate::Registry;
use crate::catalog::{VersionState, existing_version};
use crate::db::entities::tag;
use crate::db::{begin_write, now_ms};
use crate::error::{Finding, RegistryError};
use crate::http::{Body, Caller, PathOf, Problems};

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
    responses((status = 200, body = Tag), Problems)
)]
pub(crate) async fn put_tag(
    State(registry): State<Registry>,
    caller: Caller,
    PathOf(path): PathOf<TagPath>,
    Body(request): Body<PutTag>,
) -> Result<Json<Tag>, RegistryError> {
    caller.require(Scope::AdaptersWrite)?;
    let adapter = registry.owned_adapter(&caller.0, &path.owner, &path.name).await?;
    let finding = check_name_part("tag", &path.tag).err().map(|error| Finding::field("tag", error.to_string()));
    RegistryError::unless_valid(finding.into_iter().collect())?;
    let transaction = begin_write(&registry.db).await?;
    let version = existing_version(&transaction, &adapter, &request.version).await?;
    if version.state() != VersionState::Ready {
        let name = format!("{}/{}@{}", path.owner, path.name, request.version);
        return Err(RegistryError::WrongState { name, state: version.state, action: "tagged" });
    }
    let row = tag::ActiveModel {
        adapter_id: Set(adapter.id.clone()),
        tag: Set(path.tag.clone()),
        version_id: Set(version.id.clone()),
        updated_at_ms: Set(now_ms()),
    };
    let repoint = OnConflict::columns([tag::Column::AdapterId, tag::Column::Tag])
        .update_columns([tag::Column::VersionId, tag::Column::UpdatedAtMs])
        .to_owned();
    tag::Entity::insert(row).on_conflict(repoint).exec_without_returning(&transaction).await?;
    transaction.commit().await?;
    let tag = existing_tag(&registry, &adapter, &path.tag).await?;
    Ok(Json(Tag::new(&adapter, tag, version)))
}
