//! Table `tenants`.

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::ExprTrait as _;
use sea_orm::{QueryOrder as _, QuerySelect as _, Set};
use souk_protocol::TenantId;

use super::clock::now_ms;
use super::direct_uploads;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tenants")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub name: String,
    pub created_at_ms: i64,
    /// Sizes of the files of its versions; what several versions share counts for each.
    pub stored_bytes: i64,
}
no_relations!();

impl Model {
    pub(crate) fn tenant(&self) -> TenantId {
        TenantId::from_stored(&self.id)
    }
}

pub(crate) async fn named(connection: &impl ConnectionTrait, name: &str) -> Result<Option<Model>, DbErr> {
    Entity::find().filter(Column::Name.eq(name)).one(connection).await
}

pub(crate) async fn by_ids(
    connection: &impl ConnectionTrait,
    ids: impl IntoIterator<Item = &str>,
) -> Result<Vec<Model>, DbErr> {
    Entity::find().filter(Column::Id.is_in(ids)).all(connection).await
}

pub(crate) async fn of_id(connection: &impl ConnectionTrait, tenant: &TenantId) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(tenant.as_str()).one(connection).await
}

pub(crate) async fn insert(connection: &impl ConnectionTrait, name: &str) -> Result<Model, DbErr> {
    let row = ActiveModel {
        id: Set(TenantId::new().to_string()),
        name: Set(name.to_owned()),
        created_at_ms: Set(now_ms()),
        stored_bytes: Set(0),
    };
    row.insert(connection).await
}

/// What tenants have stored, in bytes.
pub(crate) struct Stored {
    /// The one that is meant.
    pub(crate) own: u64,
    /// All.
    pub(crate) all: u64,
    /// How many others have more than a little.
    pub(crate) num_large: u64,
}

/// What a tenant and all have stored; `little` is what does not count as much.
pub(crate) async fn stored(connection: &impl ConnectionTrait, tenant: &TenantId, little: u64) -> Result<Stored, DbErr> {
    let bytes = |sum: Option<i64>| u64::try_from(sum.unwrap_or_default()).unwrap_or_default();
    let stored = || Entity::find().select_only().column(Column::StoredBytes);
    let own = stored().filter(Column::Id.eq(tenant.as_str())).into_tuple::<i64>().one(connection).await?;
    // PostgreSQL adds 64-bit integers to something wider.
    let sum = Expr::cust("CAST(SUM(stored_bytes) AS BIGINT)");
    let all = Entity::find().select_only().expr(sum).into_tuple::<Option<i64>>().one(connection).await?;
    let little = i64::try_from(little).unwrap_or(i64::MAX);
    let large = Entity::find().filter(Column::StoredBytes.gt(little)).filter(Column::Id.ne(tenant.as_str()));
    // What clients are sending straight to the store counts as if it were there.
    let (own_sent, all_sent) = (
        direct_uploads::announced(connection, Some(tenant)).await?,
        direct_uploads::announced(connection, None).await?,
    );
    let (own, all) = (bytes(own).saturating_add(own_sent), bytes(all.flatten()).saturating_add(all_sent));
    Ok(Stored { own, all, num_large: large.count(connection).await? })
}

/// Counts files that a tenant's version has, or no longer has.
pub(crate) async fn add_stored(connection: &impl ConnectionTrait, tenant: &TenantId, bytes: i64) -> Result<(), DbErr> {
    let sum = Expr::col(Column::StoredBytes).add(bytes);
    let update = Entity::update_many().col_expr(Column::StoredBytes, sum).filter(Column::Id.eq(tenant.as_str()));
    update.exec(connection).await.map(|_| ())
}

/// Locks a tenant's row, so that two requests cannot both be the last that its limits let in.
pub(crate) async fn lock(connection: &impl ConnectionTrait, tenant: &TenantId) -> Result<(), DbErr> {
    Entity::find_by_id(tenant.as_str()).lock_exclusive().one(connection).await.map(|_| ())
}

/// The next `limit` tenants after the name `after`, by name.
pub(crate) async fn list(
    connection: &impl ConnectionTrait,
    after: Option<String>,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let mut query = Entity::find().order_by_asc(Column::Name).limit(limit);
    if let Some(name) = after {
        query = query.filter(Column::Name.gt(name));
    }
    query.all(connection).await
}
