//! Table `installation`: the id that ties this database to its objects.

use sea_orm::Set;
use sea_orm::entity::prelude::*;

use super::clock::now_ms;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "installation")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub created_at_ms: i64,
}
no_relations!();

/// The id of this database, once it has one.
pub(crate) async fn id(connection: &impl ConnectionTrait) -> Result<Option<String>, DbErr> {
    Ok(Entity::find().one(connection).await?.map(|row| row.id))
}

pub(crate) async fn insert(connection: &impl ConnectionTrait, id: &str) -> Result<(), DbErr> {
    let row = ActiveModel { id: Set(id.to_owned()), created_at_ms: Set(now_ms()) };
    row.insert(connection).await.map(|_| ())
}
