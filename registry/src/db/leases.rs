//! Table `leases`: tasks of which one at a time runs among all registries of the database.

use std::time::Duration;

use sea_orm::Condition;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::ExprTrait as _;

use super::clock::{clock_ms, clock_ms_in};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "leases")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    pub owner: String,
    pub expires_at_ms: i64,
}
no_relations!();

/// Ends every lease that `owner` has.
pub(crate) async fn give_back(connection: &impl ConnectionTrait, owner: &str) -> Result<(), DbErr> {
    let update = Entity::update_many().col_expr(Column::ExpiresAtMs, 0.into()).filter(Column::Owner.eq(owner));
    update.exec(connection).await.map(|_| ())
}

/// Takes or renews the lease `name` for `owner`; answers whether `owner` has it now.
pub(crate) async fn hold(
    connection: &impl ConnectionTrait,
    name: &str,
    owner: &str,
    lease: Duration,
) -> Result<bool, DbErr> {
    let is_free = Expr::col(Column::ExpiresAtMs).lt(clock_ms(connection));
    let update = Entity::update_many()
        .col_expr(Column::Owner, owner.into())
        .col_expr(Column::ExpiresAtMs, clock_ms_in(connection, lease))
        .filter(Column::Name.eq(name))
        .filter(Condition::any().add(Column::Owner.eq(owner)).add(is_free));
    Ok(update.exec(connection).await?.rows_affected > 0)
}
