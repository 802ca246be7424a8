//! Table `adapter_gates`: what gated adapters ask of who asks for access. One without a row asks nothing.

use sea_orm::IntoActiveModel as _;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "adapter_gates")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub adapter_id: String,
    /// JSON.
    pub questions: String,
    pub answer_within_days: i64,
    pub updated_at_ms: i64,
}
no_relations!();

pub(crate) async fn of(connection: &impl ConnectionTrait, adapter_id: &str) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(adapter_id).one(connection).await
}

/// Writes a gate in the place of the one before.
pub(crate) async fn put(connection: &impl ConnectionTrait, row: Model) -> Result<(), DbErr> {
    let again = OnConflict::column(Column::AdapterId)
        .update_columns([Column::Questions, Column::AnswerWithinDays, Column::UpdatedAtMs])
        .to_owned();
    let insert = Entity::insert(row.into_active_model().reset_all()).on_conflict(again);
    insert.exec_without_returning(connection).await.map(|_| ())
}

pub(crate) async fn delete_of_adapter(connection: &impl ConnectionTrait, adapter_id: &str) -> Result<(), DbErr> {
    Entity::delete_by_id(adapter_id).exec(connection).await.map(|_| ())
}
