//! Table `uploads`: uploads in flight, each with the registry that works on it and the moment at which another may end
//! it. The id is the fence: who ends an upload deletes its row, so that nothing can be committed under it any more.

use std::time::Duration;

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::ExprTrait as _;
use sea_orm::{Condition, QuerySelect as _, QueryTrait as _, Set};
use souk_protocol::TenantId;

use super::adapters;
use super::clock::{clock_ms, clock_ms_in, now_ms};
use crate::words::VersionState;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "uploads")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub adapter_id: String,
    pub version: String,
    pub state: String,
    pub started_at_ms: i64,
    pub owner: String,
    pub lease_expires_at_ms: i64,
}
no_relations!();

/// The owner of an upload that is left to its client.
pub(crate) const NOBODY: &str = "";

/// Reserves a number for one upload. A unique violation says that another upload has it.
pub(crate) async fn insert(
    connection: &impl ConnectionTrait,
    id: &str,
    adapter_id: &str,
    number: &str,
    owner: &str,
    lease: Duration,
) -> Result<(), DbErr> {
    let row = ActiveModel {
        id: Set(id.to_owned()),
        adapter_id: Set(adapter_id.to_owned()),
        version: Set(number.to_owned()),
        state: Set(VersionState::Uploading.as_str().to_owned()),
        started_at_ms: Set(now_ms()),
        owner: Set(owner.to_owned()),
        // The row is not visible before the transaction ends, with the right moment in it.
        lease_expires_at_ms: Set(0),
    };
    Entity::insert(row).exec_without_returning(connection).await?;
    renew(connection, id, owner, lease).await.map(|_| ())
}

/// Puts the end of the lease off; answers whether the upload still is its owner's.
pub(crate) async fn renew(
    connection: &impl ConnectionTrait,
    id: &str,
    owner: &str,
    lease: Duration,
) -> Result<bool, DbErr> {
    let update = Entity::update_many().col_expr(Column::LeaseExpiresAtMs, clock_ms_in(connection, lease));
    Ok(update.filter(owned(id, owner)).exec(connection).await?.rows_affected > 0)
}

/// Notes that all bytes are here; answers whether the upload still is its owner's.
pub(crate) async fn set_validating(connection: &impl ConnectionTrait, id: &str, owner: &str) -> Result<bool, DbErr> {
    let update = Entity::update_many().col_expr(Column::State, VersionState::Validating.as_str().into());
    Ok(update.filter(owned(id, owner)).exec(connection).await?.rows_affected > 0)
}

/// Leaves an upload to its client, which sends bytes straight to the store for as long as `good_for`: nobody owns it.
/// Answers the end of that time; `None` if it was not its owner's any more.
pub(crate) async fn leave_to_client(
    connection: &impl ConnectionTrait,
    id: &str,
    owner: &str,
    good_for: Duration,
) -> Result<Option<i64>, DbErr> {
    if !renew(connection, id, owner, good_for).await? {
        return Ok(None);
    }
    let row = Entity::find_by_id(id).one(connection).await?;
    let Some(expires_at_ms) = row.map(|row| row.lease_expires_at_ms) else { return Ok(None) };
    let is_left = reopen(connection, id, owner, expires_at_ms).await?;
    Ok(is_left.then_some(expires_at_ms))
}

/// Takes an upload that is left to its client, to complete it; answers whether it was.
pub(crate) async fn take(
    connection: &impl ConnectionTrait,
    id: &str,
    owner: &str,
    lease: Duration,
) -> Result<bool, DbErr> {
    let update = Entity::update_many()
        .col_expr(Column::Owner, owner.into())
        .col_expr(Column::State, VersionState::Validating.as_str().into())
        .col_expr(Column::LeaseExpiresAtMs, clock_ms_in(connection, lease))
        .filter(owned(id, NOBODY))
        .filter(Expr::col(Column::LeaseExpiresAtMs).gt(clock_ms(connection)));
    Ok(update.exec(connection).await?.rows_affected > 0)
}

/// Leaves an upload to its client again; answers whether it still was its owner's.
pub(crate) async fn reopen(
    connection: &impl ConnectionTrait,
    id: &str,
    owner: &str,
    expires_at_ms: i64,
) -> Result<bool, DbErr> {
    let update = Entity::update_many()
        .col_expr(Column::Owner, NOBODY.into())
        .col_expr(Column::State, VersionState::Uploading.as_str().into())
        .col_expr(Column::LeaseExpiresAtMs, expires_at_ms.into())
        .filter(owned(id, owner));
    Ok(update.exec(connection).await?.rows_affected > 0)
}

/// Locks an upload; answers whether it still is its owner's.
pub(crate) async fn lock(connection: &impl ConnectionTrait, id: &str, owner: &str) -> Result<bool, DbErr> {
    Ok(Entity::find().filter(owned(id, owner)).lock_exclusive().one(connection).await?.is_some())
}

fn owned(id: &str, owner: &str) -> Condition {
    Condition::all().add(Column::Id.eq(id)).add(Column::Owner.eq(owner))
}

/// Ends an upload; answers whether it still was. `upload_blobs` of it have to be gone.
pub(crate) async fn delete(connection: &impl ConnectionTrait, id: &str) -> Result<bool, DbErr> {
    Ok(Entity::delete_by_id(id).exec(connection).await?.rows_affected > 0)
}

/// Locks and answers the row of an upload whose lease was not renewed since it was seen to end at `expires_at_ms` and has
/// lapsed.
pub(crate) async fn lock_lapsed(
    connection: &impl ConnectionTrait,
    id: &str,
    expires_at_ms: i64,
) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id)
        .filter(Column::LeaseExpiresAtMs.eq(expires_at_ms))
        .filter(Expr::col(Column::LeaseExpiresAtMs).lt(clock_ms(connection)))
        .lock_exclusive()
        .one(connection)
        .await
}

/// Uploads whose lease has lapsed.
pub(crate) async fn lapsed(connection: &impl ConnectionTrait) -> Result<Vec<Model>, DbErr> {
    Entity::find().filter(Expr::col(Column::LeaseExpiresAtMs).lt(clock_ms(connection))).all(connection).await
}

/// An upload for an adapter: of this number, or of any.
pub(crate) async fn of_adapter(
    connection: &impl ConnectionTrait,
    adapter_id: &str,
    number: Option<&str>,
) -> Result<Option<Model>, DbErr> {
    let mut query = Entity::find().filter(Column::AdapterId.eq(adapter_id));
    if let Some(number) = number {
        query = query.filter(Column::Version.eq(number));
    }
    query.one(connection).await
}

/// Some upload for an adapter of a tenant, deleted ones included.
pub(crate) async fn any_of(connection: &impl ConnectionTrait, tenant: &TenantId) -> Result<Option<Model>, DbErr> {
    let of_tenant = adapters::Entity::find().filter(adapters::Column::TenantId.eq(tenant.as_str()));
    let ids = of_tenant.select_only().column(adapters::Column::Id).into_query();
    Entity::find().filter(Column::AdapterId.in_subquery(ids)).one(connection).await
}

/// How many uploads for an adapter are in flight.
pub(crate) async fn count_of(connection: &impl ConnectionTrait, adapter_id: &str) -> Result<u64, DbErr> {
    Entity::find().filter(Column::AdapterId.eq(adapter_id)).count(connection).await
}

/// The ids of all uploads.
pub(crate) async fn ids(connection: &impl ConnectionTrait) -> Result<Vec<String>, DbErr> {
    Entity::find().select_only().column(Column::Id).into_tuple().all(connection).await
}
