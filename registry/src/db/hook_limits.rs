//! Table `hook_limits`: what hooks of a tenant may take, where the operator said so. A tenant without a row has what the
//! settings say.

use sea_orm::IntoActiveModel as _;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;
use souk_protocol::TenantId;
use souk_protocol::hooks::HookLimits;

use super::clock::now_ms;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "hook_limits")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: String,
    /// An object as JSON.
    pub limits: String,
    /// 1 if the tenant may publish large components, else 0.
    pub large_components: i64,
    pub updated_at_ms: i64,
}
no_relations!();

impl Model {
    /// What was said of single limits.
    pub(crate) fn limits(&self) -> HookLimits {
        serde_json::from_str(&self.limits).unwrap_or_default()
    }
}

/// A tenant's row, or what one without a row has.
pub(crate) async fn of(connection: &impl ConnectionTrait, tenant: &TenantId) -> Result<Model, DbErr> {
    let row = Entity::find_by_id(tenant.as_str()).one(connection).await?;
    Ok(row.unwrap_or_else(|| Model {
        tenant_id: tenant.to_string(),
        limits: "{}".to_owned(),
        large_components: 0,
        updated_at_ms: 0,
    }))
}

/// Writes a row in the place of the one before.
pub(crate) async fn put(connection: &impl ConnectionTrait, row: Model) -> Result<(), DbErr> {
    let row = Model { updated_at_ms: now_ms(), ..row };
    let again = OnConflict::column(Column::TenantId)
        .update_columns([Column::Limits, Column::LargeComponents, Column::UpdatedAtMs])
        .to_owned();
    let insert = Entity::insert(row.into_active_model().reset_all()).on_conflict(again);
    insert.exec_without_returning(connection).await.map(|_| ())
}
