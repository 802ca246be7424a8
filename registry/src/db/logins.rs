//! Table `logins`: sign-ins that are under way at a provider of identities. Who comes back removes its row.

use std::time::Duration;

use sea_orm::IntoActiveModel as _;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::ExprTrait as _;

use super::clock::clock_ms_ago;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "logins")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub secret_hash: Vec<u8>,
    pub provider: String,
    pub return_to: Option<String>,
    pub invitation_id: Option<String>,
    pub session_id: Option<String>,
    pub connects: bool,
    pub expires_at_ms: i64,
}
no_relations!();

pub(crate) async fn insert(connection: &impl ConnectionTrait, row: Model) -> Result<(), DbErr> {
    Entity::insert(row.into_active_model().reset_all()).exec_without_returning(connection).await.map(|_| ())
}

pub(crate) async fn get(connection: &impl ConnectionTrait, id: &str) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).one(connection).await
}

/// Uses one; answers whether it was still there. Of several who do so at once, one is told that it was.
pub(crate) async fn take(connection: &impl ConnectionTrait, id: &str) -> Result<bool, DbErr> {
    Ok(Entity::delete_by_id(id).exec(connection).await?.rows_affected > 0)
}

/// Removes those whose time is over.
pub(crate) async fn delete_expired(connection: &impl ConnectionTrait) -> Result<(), DbErr> {
    let is_over = Expr::col(Column::ExpiresAtMs).lt(clock_ms_ago(connection, Duration::ZERO));
    Entity::delete_many().filter(is_over).exec(connection).await.map(|_| ())
}
