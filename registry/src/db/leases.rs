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

#[cfg(test)]
mod tests {
    use sea_orm::{ConnectOptions, Database};
    use souk_migrations::{Migrator, MigratorTrait as _};

    use super::*;
    use crate::db::now_ms;

    #[tokio::test]
    async fn one_at_a_time_holds_a_lease_until_it_lapses_or_is_given_back() {
        // One connection, because each would have an in-memory database of its own.
        let db = Database::connect(ConnectOptions::new("sqlite::memory:").max_connections(1).to_owned()).await.unwrap();
        Migrator::up(&db, None).await.unwrap();
        let hold = async |owner: &str, ms: u64| hold(&db, "collector", owner, Duration::from_millis(ms)).await.unwrap();
        assert!(hold("first", 300).await);
        assert!(!hold("second", 300).await);
        let row = Entity::find_by_id("collector").one(&db).await.unwrap().unwrap();
        let left_ms = row.expires_at_ms - now_ms();
        assert!((0..=300).contains(&left_ms), "the database's clock is this host's; {left_ms} ms are left of 300");
        assert!(hold("first", 300).await, "it is renewed by who has it");
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert!(hold("second", 60_000).await);
        assert!(!hold("first", 300).await);
        give_back(&db, "first").await.unwrap();
        assert!(!hold("first", 300).await);
        give_back(&db, "second").await.unwrap();
        assert!(hold("first", 300).await);
    }
}
