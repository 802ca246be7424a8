//! Table `tenant_limits`: what is a tenant's alone beside its limits. A tenant without a row weighs 1 at gates, has the
//! installation's ceiling, and keeps no answers.

use sea_orm::IntoActiveModel as _;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;
use souk_protocol::TenantId;

use super::clock::now_ms;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tenant_limits")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: String,
    /// What it gets at gates beside others, of which each has 1.
    pub gate_weight: i64,
    /// Most tokens of one answer; `None`: the installation's default.
    pub output_ceiling: Option<i64>,
    /// 1 if whole answers may be kept, to be given again, else 0.
    pub keeps_answers: i64,
    pub updated_at_ms: i64,
}
no_relations!();

/// A tenant's row, or what one without a row has.
pub(crate) async fn of(connection: &impl ConnectionTrait, tenant: &TenantId) -> Result<Model, DbErr> {
    let row = Entity::find_by_id(tenant.as_str()).one(connection).await?;
    Ok(row.unwrap_or_else(|| Model {
        tenant_id: tenant.to_string(),
        gate_weight: 1,
        output_ceiling: None,
        keeps_answers: 0,
        updated_at_ms: 0,
    }))
}

/// Writes a row in the place of the one before.
pub(crate) async fn put(connection: &impl ConnectionTrait, row: Model) -> Result<(), DbErr> {
    let row = Model { updated_at_ms: now_ms(), ..row };
    let again = OnConflict::column(Column::TenantId)
        .update_columns([Column::GateWeight, Column::OutputCeiling, Column::KeepsAnswers, Column::UpdatedAtMs])
        .to_owned();
    let insert = Entity::insert(row.into_active_model().reset_all()).on_conflict(again);
    insert.exec_without_returning(connection).await.map(|_| ())
}
