//! Table `taken_down_content`: what is served and published no more, whatever name it has.

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;
use sea_orm::{IntoActiveModel as _, QueryOrder as _};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "taken_down_content")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub digest: String,
    pub version_id: String,
    pub reason: String,
    pub by_key: Option<String>,
    pub taken_down_at_ms: i64,
}
no_relations!();

/// Notes content; what was noted before stays as it is.
pub(crate) async fn insert_all(connection: &impl ConnectionTrait, rows: Vec<Model>) -> Result<(), DbErr> {
    for row in rows {
        let is_there = OnConflict::column(Column::Digest).update_column(Column::Digest).to_owned();
        let row = row.into_active_model().reset_all();
        Entity::insert(row).on_conflict(is_there).exec_without_returning(connection).await?;
    }
    Ok(())
}

/// The first of `digests` that was taken down.
pub(crate) async fn any_of(connection: &impl ConnectionTrait, digests: &[String]) -> Result<Option<Model>, DbErr> {
    let found = Entity::find().filter(Column::Digest.is_in(digests)).order_by_asc(Column::TakenDownAtMs);
    found.one(connection).await
}
