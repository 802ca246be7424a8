//! Table `direct_uploads`: what was announced of uploads whose bytes go from the client straight into the object store.
//! Each has a row in `uploads` too, which reserves its number.

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{ExprTrait as _, Query};
use sea_orm::{IntoActiveModel as _, QueryOrder as _, QuerySelect as _};
use souk_protocol::TenantId;

use super::clock::clock_ms;
use super::uploads;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "direct_uploads")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub upload_id: String,
    pub tenant_id: String,
    pub adapter_id: String,
    pub version: String,
    /// Of all bytes, as the client says.
    pub digest: String,
    pub size_bytes: i64,
    /// Bytes of every part but the last.
    pub part_bytes: i64,
    pub expires_at_ms: i64,
    /// What the store calls it, while parts can be sent.
    pub store_id: Option<String>,
}
no_relations!();

impl Model {
    pub(crate) fn tenant(&self) -> TenantId {
        TenantId::from_stored(&self.tenant_id)
    }
}

pub(crate) async fn insert(connection: &impl ConnectionTrait, row: Model) -> Result<(), DbErr> {
    Entity::insert(row.into_active_model()).exec_without_returning(connection).await.map(|_| ())
}

/// An upload for an adapter that has not expired.
pub(crate) async fn get(
    connection: &impl ConnectionTrait,
    adapter_id: &str,
    upload_id: &str,
) -> Result<Option<Model>, DbErr> {
    let query = Entity::find_by_id(upload_id).filter(Column::AdapterId.eq(adapter_id));
    query.filter(Expr::col(Column::ExpiresAtMs).gt(clock_ms(connection))).one(connection).await
}

/// The next `limit` uploads for an adapter after the id `after`, in the order in which they began.
pub(crate) async fn list(
    connection: &impl ConnectionTrait,
    adapter_id: &str,
    after: Option<String>,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let unexpired = Expr::col(Column::ExpiresAtMs).gt(clock_ms(connection));
    let mut query = Entity::find().filter(Column::AdapterId.eq(adapter_id)).filter(unexpired);
    if let Some(id) = after {
        query = query.filter(Column::UploadId.gt(id));
    }
    query.order_by_asc(Column::UploadId).limit(limit).all(connection).await
}

/// The end of an upload that has not expired.
pub(crate) async fn unexpired(connection: &impl ConnectionTrait, upload_id: &str) -> Result<Option<i64>, DbErr> {
    let query = Entity::find_by_id(upload_id).select_only().column(Column::ExpiresAtMs);
    query.filter(Expr::col(Column::ExpiresAtMs).gt(clock_ms(connection))).into_tuple().one(connection).await
}

/// How many a tenant has.
pub(crate) async fn count_of(connection: &impl ConnectionTrait, tenant: &TenantId) -> Result<u64, DbErr> {
    Entity::find().filter(Column::TenantId.eq(tenant.as_str())).count(connection).await
}

/// Bytes that are announced: of one tenant, or of all.
pub(crate) async fn announced(connection: &impl ConnectionTrait, tenant: Option<&TenantId>) -> Result<u64, DbErr> {
    // PostgreSQL adds 64-bit integers to something wider.
    let sum = Expr::cust("CAST(SUM(size_bytes) AS BIGINT)");
    let mut query = Entity::find().select_only().expr(sum);
    if let Some(tenant) = tenant {
        query = query.filter(Column::TenantId.eq(tenant.as_str()));
    }
    let sum = query.into_tuple::<Option<i64>>().one(connection).await?.flatten();
    Ok(u64::try_from(sum.unwrap_or_default()).unwrap_or_default())
}

/// Notes that no more parts are sent. No error if there is none.
pub(crate) async fn forget_store_id(connection: &impl ConnectionTrait, upload_id: &str) -> Result<(), DbErr> {
    let update = Entity::update_many().col_expr(Column::StoreId, Expr::value(None::<String>));
    update.filter(Column::UploadId.eq(upload_id)).exec(connection).await.map(|_| ())
}

/// No error if there is none.
pub(crate) async fn delete(connection: &impl ConnectionTrait, upload_id: &str) -> Result<(), DbErr> {
    Entity::delete_by_id(upload_id).exec(connection).await.map(|_| ())
}

/// Removes rows whose upload was ended by a program that does not know them.
pub(crate) async fn delete_ended(connection: &impl ConnectionTrait) -> Result<(), DbErr> {
    let running = Query::select().column(uploads::Column::Id).from(uploads::Entity).take();
    let ended = Column::UploadId.not_in_subquery(running);
    Entity::delete_many().filter(ended).exec(connection).await.map(|_| ())
}
