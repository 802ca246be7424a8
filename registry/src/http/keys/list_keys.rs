use axum::Json;
use axum::extract::State;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _};
use serde::Deserialize;
use souk_protocol::Scope;
use utoipa::IntoParams;

use super::{Key, tenant_of_keys};
use crate::Registry;
use crate::db::entities::api_key;
use crate::error::RegistryError;
use crate::http::{Caller, Page, PageQuery, Problems, QueryOf};

/// Whose keys, and which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListKeys {
    /// A tenant's name; absent for the caller's own. Naming another takes the scope `admin`.
    tenant: Option<String>,
    /// Items per page, 1 to 100; 20 if absent.
    limit: Option<u64>,
    /// `next_cursor` of the page before; absent for the first page.
    cursor: Option<String>,
}

/// The tenant's keys, revoked ones included, by id. Secrets are not among what is kept.
///
/// Scope: `keys:manage`.
#[utoipa::path(
    get, path = "/keys", tag = "keys",
    params(ListKeys),
    responses((status = 200, body = Page<Key>), Problems)
)]
pub(crate) async fn list_keys(
    State(registry): State<Registry>,
    caller: Caller,
    QueryOf(request): QueryOf<ListKeys>,
) -> Result<Json<Page<Key>>, RegistryError> {
    caller.require(Scope::KeysManage)?;
    let tenant_id = tenant_of_keys(&registry, &caller.0, request.tenant.as_deref()).await?;
    let page = PageQuery::new(request.limit, request.cursor);
    let limit = page.limit()?;
    let mut query = api_key::Entity::find()
        .filter(api_key::Column::TenantId.eq(tenant_id))
        .order_by_asc(api_key::Column::Id)
        .limit(limit + 1);
    if let Some(id) = page.after()? {
        query = query.filter(api_key::Column::Id.gt(id));
    }
    let rows = query.all(&registry.db).await?;
    Ok(Json(Page::from_rows(rows, limit, |row| row.id.clone(), Key::from)))
}
