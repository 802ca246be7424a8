//! Table `tags`.

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;
use sea_orm::{IntoActiveModel as _, QueryOrder as _, QuerySelect as _};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tags")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub adapter_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub tag: String,
    pub version_id: String,
    pub updated_at_ms: i64,
}
no_relations!();

pub(crate) async fn get(
    connection: &impl ConnectionTrait,
    adapter_id: &str,
    tag: &str,
) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id((adapter_id.to_owned(), tag.to_owned())).one(connection).await
}

/// The next `limit` tags of an adapter after the tag `after`, by name.
pub(crate) async fn list(
    connection: &impl ConnectionTrait,
    adapter_id: &str,
    after: Option<String>,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let mut query = Entity::find().filter(Column::AdapterId.eq(adapter_id)).order_by_asc(Column::Tag).limit(limit);
    if let Some(tag) = after {
        query = query.filter(Column::Tag.gt(tag));
    }
    query.all(connection).await
}

/// How many tags an adapter has.
pub(crate) async fn count_of(connection: &impl ConnectionTrait, adapter_id: &str) -> Result<u64, DbErr> {
    Entity::find().filter(Column::AdapterId.eq(adapter_id)).count(connection).await
}

pub(crate) async fn of_versions(
    connection: &impl ConnectionTrait,
    version_ids: impl IntoIterator<Item = &str>,
) -> Result<Vec<Model>, DbErr> {
    Entity::find().filter(Column::VersionId.is_in(version_ids)).all(connection).await
}

/// Writes a tag, over one of the same name if there is one.
pub(crate) async fn put(connection: &impl ConnectionTrait, row: &Model) -> Result<(), DbErr> {
    let repoint = OnConflict::columns([Column::AdapterId, Column::Tag])
        .update_columns([Column::VersionId, Column::UpdatedAtMs])
        .to_owned();
    let insert = Entity::insert(row.clone().into_active_model().reset_all()).on_conflict(repoint);
    insert.exec_without_returning(connection).await.map(|_| ())
}

/// Answers whether there was one.
pub(crate) async fn delete(connection: &impl ConnectionTrait, adapter_id: &str, tag: &str) -> Result<bool, DbErr> {
    let id = (adapter_id.to_owned(), tag.to_owned());
    Ok(Entity::delete_by_id(id).exec(connection).await?.rows_affected > 0)
}

pub(crate) async fn delete_of_version(connection: &impl ConnectionTrait, version_id: &str) -> Result<(), DbErr> {
    Entity::delete_many().filter(Column::VersionId.eq(version_id)).exec(connection).await.map(|_| ())
}

pub(crate) async fn delete_of_adapter(connection: &impl ConnectionTrait, adapter_id: &str) -> Result<(), DbErr> {
    Entity::delete_many().filter(Column::AdapterId.eq(adapter_id)).exec(connection).await.map(|_| ())
}
