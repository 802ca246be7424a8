//! Table `signing_keys`: what tokens are signed with. The private half is sealed.

use std::time::Duration;

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::ExprTrait as _;
use sea_orm::{QueryOrder as _, Set};

use super::clock::{clock_ms_ago, now_ms};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "signing_keys")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub kid: String,
    pub public_key: Vec<u8>,
    pub sealed_private_key: Vec<u8>,
    pub seal_version: i32,
    pub created_at_ms: i64,
}
no_relations!();

/// All of them, newest first.
pub(crate) async fn all(connection: &impl ConnectionTrait) -> Result<Vec<Model>, DbErr> {
    Entity::find().order_by_desc(Column::CreatedAtMs).order_by_desc(Column::Kid).all(connection).await
}

pub(crate) async fn insert(
    connection: &impl ConnectionTrait,
    kid: &str,
    public_key: &[u8],
    sealed_private_key: Vec<u8>,
    seal_version: i32,
) -> Result<Model, DbErr> {
    let row = ActiveModel {
        kid: Set(kid.to_owned()),
        public_key: Set(public_key.to_vec()),
        sealed_private_key: Set(sealed_private_key),
        seal_version: Set(seal_version),
        created_at_ms: Set(now_ms()),
    };
    row.insert(connection).await
}

/// Puts a private half under another seal, unless somebody else has.
pub(crate) async fn reseal(
    connection: &impl ConnectionTrait,
    before: &Model,
    sealed_private_key: Vec<u8>,
    seal_version: i32,
) -> Result<(), DbErr> {
    let update = Entity::update_many()
        .col_expr(Column::SealedPrivateKey, sealed_private_key.into())
        .col_expr(Column::SealVersion, seal_version.into())
        .filter(Column::Kid.eq(&before.kid))
        .filter(Column::SealVersion.eq(before.seal_version));
    update.exec(connection).await.map(|_| ())
}

/// Removes what is older than `age`.
pub(crate) async fn delete_older(connection: &impl ConnectionTrait, age: Duration) -> Result<(), DbErr> {
    let old = Expr::col(Column::CreatedAtMs).lt(clock_ms_ago(connection, age));
    Entity::delete_many().filter(old).exec(connection).await.map(|_| ())
}
