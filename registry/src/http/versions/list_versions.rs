use axum::Json;
use axum::extract::State;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};
use semver::Version;
use souk_protocol::Scope;

use super::{AdapterVersion, shown};
use crate::Registry;
use crate::catalog::{VersionState, version_of};
use crate::db::entities::version;
use crate::error::RegistryError;
use crate::http::adapters::AdapterPath;
use crate::http::{Caller, Page, PageQuery, PathOf, Problems, QueryOf};

/// An adapter's versions, highest number first.
///
/// Scope: `adapters:read`.
#[utoipa::path(
    get, path = "/adapters/{owner}/{name}/versions", tag = "versions",
    params(AdapterPath, PageQuery),
    responses((status = 200, body = Page<AdapterVersion>), Problems)
)]
pub(crate) async fn list_versions(
    State(registry): State<Registry>,
    caller: Caller,
    PathOf(path): PathOf<AdapterPath>,
    QueryOf(page): QueryOf<PageQuery>,
) -> Result<Json<Page<AdapterVersion>>, RegistryError> {
    caller.require(Scope::AdaptersRead)?;
    let adapter = registry.visible_adapter(&caller.0, &path.owner, &path.name).await?;
    let limit = page.limit()?;
    let below = match page.after()?.map(|text| Version::parse(&text)) {
        None => None,
        Some(Ok(version)) => Some(version),
        Some(Err(_)) => {
            return Err(RegistryError::bad_request("invalid_query", "`cursor` is not one that a page ended with"));
        }
    };
    let mut rows = version::Entity::find()
        .filter(version::Column::AdapterId.eq(&adapter.id))
        .filter(version::Column::State.ne(VersionState::Deleted.as_str()))
        .all(&registry.db)
        .await?;
    // SQL cannot order by the rules of semantic versions.
    rows.retain(|row| below.as_ref().is_none_or(|below| version_of(row) < *below));
    rows.sort_by_key(|row| std::cmp::Reverse(version_of(row)));
    let page = Page::from_rows(rows, limit, |row| row.version.clone(), |row| row);
    let data = shown(&registry, &adapter, page.data).await?;
    Ok(Json(Page { data, next_cursor: page.next_cursor }))
}
