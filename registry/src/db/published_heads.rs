//! Table `published_heads`: where chains of audit entries ended, hour for hour. It only grows.

use sea_orm::entity::prelude::*;
use sea_orm::{QueryOrder as _, QuerySelect as _, Statement, Value};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "published_heads")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i64,
    pub hash: String,
    pub published_at_ms: i64,
}
no_relations!();

/// Publishes, as of `at_ms`, each head that was not; answers how many. Two registries that do so at once publish each once.
pub(crate) async fn publish(connection: &impl ConnectionTrait, at_ms: i64) -> Result<u64, DbErr> {
    let insert = "INSERT INTO published_heads (tenant_id, number, hash, published_at_ms) \
                  SELECT h.tenant_id, h.number, h.hash, $1 FROM audit_heads h WHERE h.number > 0 AND NOT EXISTS \
                  (SELECT 1 FROM published_heads p WHERE p.tenant_id = h.tenant_id AND p.number = h.number) \
                  ON CONFLICT DO NOTHING";
    let insert = Statement::from_sql_and_values(connection.get_database_backend(), insert, [at_ms.into()]);
    Ok(connection.execute_raw(insert).await?.rows_affected())
}

/// When anything was published last.
pub(crate) async fn newest_ms(connection: &impl ConnectionTrait) -> Result<Option<i64>, DbErr> {
    let newest = Entity::find().select_only().column(Column::PublishedAtMs).order_by_desc(Column::PublishedAtMs);
    newest.into_tuple().one(connection).await
}

/// What was published as of `at_ms`, by chain; after the chain `after`.
pub(crate) async fn published_at(
    connection: &impl ConnectionTrait,
    at_ms: i64,
    after: Option<String>,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let mut query = Entity::find().filter(Column::PublishedAtMs.eq(at_ms)).order_by_asc(Column::TenantId).limit(limit);
    if let Some(chain) = after {
        query = query.filter(Column::TenantId.gt(chain));
    }
    query.all(connection).await
}

/// The lowest published head of a chain that is of this entry or a later one.
pub(crate) async fn lowest_from(
    connection: &impl ConnectionTrait,
    chain: &str,
    number: i64,
) -> Result<Option<Model>, DbErr> {
    let from = Entity::find().filter(Column::TenantId.eq(chain)).filter(Column::Number.gte(number));
    from.order_by_asc(Column::Number).one(connection).await
}

/// The first chain after `after` that has entries before a moment up to a published head, and the highest such head.
pub(crate) async fn first_old(
    connection: &impl ConnectionTrait,
    after: &str,
    before_ms: i64,
) -> Result<Option<(String, i64)>, DbErr> {
    let query = "SELECT p.tenant_id AS chain, MAX(p.number) AS number FROM published_heads p JOIN audit_entries e \
                 ON e.tenant_id = p.tenant_id AND e.number = p.number WHERE p.tenant_id > $1 AND e.at_ms < $2 \
                 GROUP BY p.tenant_id ORDER BY p.tenant_id LIMIT 1";
    let values: [Value; 2] = [after.into(), before_ms.into()];
    let statement = Statement::from_sql_and_values(connection.get_database_backend(), query, values);
    let row = connection.query_one_raw(statement).await?;
    row.map(|row| Ok((row.try_get("", "chain")?, row.try_get("", "number")?))).transpose()
}

/// Heads of a chain below a number, the highest first.
pub(crate) async fn below(
    connection: &impl ConnectionTrait,
    chain: &str,
    below: Option<i64>,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let mut query = Entity::find().filter(Column::TenantId.eq(chain)).order_by_desc(Column::Number).limit(limit);
    if let Some(number) = below {
        query = query.filter(Column::Number.lt(number));
    }
    query.all(connection).await
}
