//! Table `webhook_endpoints`: where a tenant has its events sent. One that is deleted keeps its row, without secrets, until
//! its deliveries are gone.

use sea_orm::entity::prelude::*;
use sea_orm::{Condition, IntoActiveModel as _, QueryOrder as _, QuerySelect as _};
use souk_protocol::TenantId;

use super::clock::now_ms;

/// The states of an endpoint.
pub(crate) const ENABLED: &str = "enabled";
/// It gets nothing: its owner says so, or it has failed for long.
pub(crate) const PAUSED: &str = "paused";
const DELETED: &str = "deleted";

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_endpoints")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub tenant_id: String,
    pub url: String,
    pub description: String,
    /// Names of kinds with spaces between; empty for all.
    pub kinds: String,
    pub sealed_secret: Vec<u8>,
    pub seal_version: i32,
    pub sealed_secret_before: Option<Vec<u8>>,
    pub seal_version_before: Option<i32>,
    pub secret_before_until_ms: Option<i64>,
    pub state: String,
    /// Why it was paused; `None` where its owner did it.
    pub paused_reason: Option<String>,
    /// Since when it does nothing but fail.
    pub failing_since_ms: Option<i64>,
    pub created_at_ms: i64,
    pub updated_at_ms: i64,
}
no_relations!();

impl Model {
    pub(crate) fn tenant(&self) -> TenantId {
        TenantId::from_stored(&self.tenant_id)
    }

    /// Whether events of this kind are for it.
    pub(crate) fn wants(&self, kind: &str) -> bool {
        self.kinds.is_empty() || self.kinds.split(' ').any(|name| name == kind)
    }
}

/// Those of a tenant that were not deleted.
pub(crate) async fn of_tenant(connection: &impl ConnectionTrait, tenant: &TenantId) -> Result<Vec<Model>, DbErr> {
    existing(tenant).order_by_asc(Column::Id).all(connection).await
}

/// How many these are.
pub(crate) async fn count_of(connection: &impl ConnectionTrait, tenant: &TenantId) -> Result<u64, DbErr> {
    existing(tenant).count(connection).await
}

/// The next `limit` of them after the id `after`, by id.
pub(crate) async fn list(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    after: Option<String>,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let mut query = existing(tenant).order_by_asc(Column::Id).limit(limit);
    if let Some(id) = after {
        query = query.filter(Column::Id.gt(id));
    }
    query.all(connection).await
}

/// One of them.
pub(crate) async fn get(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    id: &str,
) -> Result<Option<Model>, DbErr> {
    existing(tenant).filter(Column::Id.eq(id)).one(connection).await
}

pub(crate) async fn insert(connection: &impl ConnectionTrait, row: Model) -> Result<(), DbErr> {
    Entity::insert(row.into_active_model().reset_all()).exec_without_returning(connection).await.map(|_| ())
}

/// Writes all of a row, unless it was deleted.
pub(crate) async fn update(connection: &impl ConnectionTrait, row: Model) -> Result<(), DbErr> {
    let id = row.id.clone();
    let update = Entity::update_many().set(row.into_active_model().reset_all());
    update.filter(Column::Id.eq(id)).filter(Column::State.ne(DELETED)).exec(connection).await.map(|_| ())
}

/// Ends an endpoint: of what it was its id is left.
pub(crate) async fn delete(connection: &impl ConnectionTrait, id: &str) -> Result<(), DbErr> {
    let update = Entity::update_many()
        .col_expr(Column::State, DELETED.into())
        .col_expr(Column::Url, "".into())
        .col_expr(Column::Description, "".into())
        .col_expr(Column::SealedSecret, Vec::<u8>::new().into())
        .col_expr(Column::SealedSecretBefore, Option::<Vec<u8>>::None.into())
        .col_expr(Column::SecretBeforeUntilMs, Option::<i64>::None.into())
        .col_expr(Column::UpdatedAtMs, now_ms().into());
    update.filter(Column::Id.eq(id)).exec(connection).await.map(|_| ())
}

/// Notes that an endpoint answered as it should.
pub(crate) async fn note_success(connection: &impl ConnectionTrait, id: &str) -> Result<(), DbErr> {
    let update = Entity::update_many().col_expr(Column::FailingSinceMs, Option::<i64>::None.into());
    update.filter(Column::Id.eq(id)).filter(Column::FailingSinceMs.is_not_null()).exec(connection).await.map(|_| ())
}

/// Notes that an endpoint failed, unless it already did.
pub(crate) async fn note_failure(connection: &impl ConnectionTrait, id: &str) -> Result<(), DbErr> {
    let update = Entity::update_many().col_expr(Column::FailingSinceMs, now_ms().into());
    update.filter(Column::Id.eq(id)).filter(Column::FailingSinceMs.is_null()).exec(connection).await.map(|_| ())
}

/// Pauses an endpoint that is enabled; answers whether it did.
pub(crate) async fn pause(connection: &impl ConnectionTrait, id: &str, reason: &str) -> Result<bool, DbErr> {
    let update = Entity::update_many()
        .col_expr(Column::State, PAUSED.into())
        .col_expr(Column::PausedReason, reason.into())
        .col_expr(Column::UpdatedAtMs, now_ms().into());
    let enabled = update.filter(Column::Id.eq(id)).filter(Column::State.eq(ENABLED));
    Ok(enabled.exec(connection).await?.rows_affected > 0)
}

/// The ids of those that were deleted, some at a time.
pub(crate) async fn deleted(connection: &impl ConnectionTrait) -> Result<Vec<String>, DbErr> {
    let deleted = Entity::find().select_only().column(Column::Id).filter(Column::State.eq(DELETED)).limit(100);
    deleted.into_tuple().all(connection).await
}

/// Removes the row of one that was deleted. Its deliveries have to be gone.
pub(crate) async fn remove(connection: &impl ConnectionTrait, id: &str) -> Result<(), DbErr> {
    Entity::delete_by_id(id).exec(connection).await.map(|_| ())
}

/// Whether there is a secret that a sealing key has to open.
pub(crate) async fn any_exist(connection: &impl ConnectionTrait) -> Result<bool, DbErr> {
    Ok(Entity::find().filter(Column::State.ne(DELETED)).limit(1).one(connection).await?.is_some())
}

/// Endpoints with a secret that is sealed under another key than this.
pub(crate) async fn sealed_under_others(connection: &impl ConnectionTrait, version: i32) -> Result<Vec<Model>, DbErr> {
    let others = Condition::any().add(Column::SealVersion.ne(version)).add(Column::SealVersionBefore.ne(version));
    Entity::find().filter(Column::State.ne(DELETED)).filter(others).all(connection).await
}

/// Puts secrets under another seal, each with its version, unless they were rotated meanwhile.
pub(crate) async fn reseal(
    connection: &impl ConnectionTrait,
    row: &Model,
    now: (i32, Vec<u8>),
    before: Option<(i32, Vec<u8>)>,
) -> Result<(), DbErr> {
    let (version_before, sealed_before) = before.unzip();
    let update = Entity::update_many()
        .col_expr(Column::SealVersion, now.0.into())
        .col_expr(Column::SealedSecret, now.1.into())
        .col_expr(Column::SealVersionBefore, version_before.into())
        .col_expr(Column::SealedSecretBefore, sealed_before.into())
        .filter(Column::Id.eq(&row.id))
        .filter(Column::SealedSecret.eq(row.sealed_secret.clone()));
    update.exec(connection).await.map(|_| ())
}

fn existing(tenant: &TenantId) -> Select<Entity> {
    Entity::find().filter(Column::TenantId.eq(tenant.as_str())).filter(Column::State.ne(DELETED))
}
