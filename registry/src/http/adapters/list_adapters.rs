use axum::Json;
use axum::extract::State;
use sea_orm::sea_query::{Expr, ExprTrait as _, Func, LikeExpr};
use sea_orm::{ColumnTrait as _, Condition, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _};
use serde::Deserialize;
use souk_protocol::Scope;
use utoipa::IntoParams;

use super::{Adapter, latest_versions};
use crate::Registry;
use crate::catalog::{Visibility, visible_to};
use crate::db::entities::adapter;
use crate::error::RegistryError;
use crate::http::{Caller, Page, PageQuery, Problems, QueryOf};

/// Which adapters, and which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListAdapters {
    /// Only those of this tenant.
    owner: Option<String>,
    /// Only those with this visibility.
    #[param(inline)]
    visibility: Option<Visibility>,
    /// Only those with this text in their name or description, in any case.
    search: Option<String>,
    /// Items per page, 1 to 100; 20 if absent.
    limit: Option<u64>,
    /// `next_cursor` of the page before; absent for the first page.
    cursor: Option<String>,
}

/// The adapters that the caller may see, by owner and name.
///
/// Scope: `adapters:read`.
#[utoipa::path(
    get, path = "/adapters", tag = "adapters",
    params(ListAdapters),
    responses((status = 200, body = Page<Adapter>), Problems)
)]
pub(crate) async fn list_adapters(
    State(registry): State<Registry>,
    caller: Caller,
    QueryOf(request): QueryOf<ListAdapters>,
) -> Result<Json<Page<Adapter>>, RegistryError> {
    caller.require(Scope::AdaptersRead)?;
    let filters = filters(&request);
    let page = PageQuery::new(request.limit, request.cursor);
    let limit = page.limit()?;
    let mut query = adapter::Entity::find()
        .filter(visible_to(&caller.0))
        .filter(adapter::Column::DeletedAtMs.is_null())
        .filter(filters)
        .order_by_asc(adapter::Column::Owner)
        .order_by_asc(adapter::Column::Name)
        .limit(limit + 1);
    if let Some(key) = page.after()? {
        query = query.filter(after(&key)?);
    }
    let rows = query.all(&registry.db).await?;
    let latest = latest_versions(&registry, &rows).await?;
    let page = Page::from_rows(
        rows,
        limit,
        |row| format!("{}/{}", row.owner, row.name),
        |row| {
            let latest = latest.get(&row.id);
            Adapter::new(row, latest)
        },
    );
    Ok(Json(page))
}

fn filters(request: &ListAdapters) -> Condition {
    let owner = request.owner.as_ref().map(|owner| adapter::Column::Owner.eq(owner));
    let visibility = request.visibility.map(|visibility| adapter::Column::Visibility.eq(visibility.as_str()));
    let search = request.search.as_ref().map(|text| {
        // The text is meant as it stands: `_` and `%` are not wildcards.
        let escaped: String = text.to_lowercase().chars().fold(String::new(), |mut escaped, character| {
            if matches!(character, '\\' | '%' | '_') {
                escaped.push('\\');
            }
            escaped.push(character);
            escaped
        });
        let has_text = |column: adapter::Column| {
            let pattern = LikeExpr::new(format!("%{escaped}%")).escape('\\');
            Expr::expr(Func::lower(Expr::col(column))).like(pattern)
        };
        Condition::any().add(has_text(adapter::Column::Name)).add(has_text(adapter::Column::Description))
    });
    Condition::all().add_option(owner).add_option(visibility).add_option(search)
}

/// What comes after `owner/name` in the order of the list.
fn after(key: &str) -> Result<Condition, RegistryError> {
    let detail = "`cursor` is not one that a page ended with";
    let (owner, name) = key.split_once('/').ok_or_else(|| RegistryError::bad_request("invalid_query", detail))?;
    let same_owner = Condition::all().add(adapter::Column::Owner.eq(owner)).add(adapter::Column::Name.gt(name));
    Ok(Condition::any().add(adapter::Column::Owner.gt(owner)).add(same_owner))
}
