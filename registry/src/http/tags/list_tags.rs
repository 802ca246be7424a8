use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _};
use souk_protocol::Scope;

use super::Tag;
use crate::Registry;
use crate::db::entities::{tag, version};
use crate::error::RegistryError;
use crate::http::adapters::AdapterPath;
use crate::http::{Caller, Page, PageQuery, PathOf, Problems, QueryOf};

/// An adapter's tags, by name.
///
/// Scope: `adapters:read`.
#[utoipa::path(
    get, path = "/adapters/{owner}/{name}/tags", tag = "tags",
    params(AdapterPath, PageQuery),
    responses((status = 200, body = Page<Tag>), Problems)
)]
pub(crate) async fn list_tags(
    State(registry): State<Registry>,
    caller: Caller,
    PathOf(path): PathOf<AdapterPath>,
    QueryOf(page): QueryOf<PageQuery>,
) -> Result<Json<Page<Tag>>, RegistryError> {
    caller.require(Scope::AdaptersRead)?;
    let adapter = registry.visible_adapter(&caller.0, &path.owner, &path.name).await?;
    let limit = page.limit()?;
    let mut query = tag::Entity::find()
        .filter(tag::Column::AdapterId.eq(&adapter.id))
        .order_by_asc(tag::Column::Tag)
        .limit(limit + 1);
    if let Some(last) = page.after()? {
        query = query.filter(tag::Column::Tag.gt(last));
    }
    let page = Page::from_rows(query.all(&registry.db).await?, limit, |row| row.tag.clone(), |row| row);
    let version_ids = page.data.iter().map(|tag| tag.version_id.as_str());
    let versions = version::Entity::find().filter(version::Column::Id.is_in(version_ids)).all(&registry.db).await?;
    let versions: HashMap<_, _> = versions.into_iter().map(|version| (version.id.clone(), version)).collect();
    // A version that was deleted between the two queries took its tags with it.
    let show = |tag: tag::Model| {
        let version = versions.get(&tag.version_id)?.clone();
        Some(Tag::new(&adapter, tag, version))
    };
    Ok(Json(Page { data: page.data.into_iter().filter_map(show).collect(), next_cursor: page.next_cursor }))
}
