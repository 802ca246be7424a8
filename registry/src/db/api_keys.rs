//! Table `api_keys`.

use std::collections::HashSet;
use std::time::Duration;

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::ExprTrait as _;
use sea_orm::{Condition, IntoActiveModel as _, QueryOrder as _, QuerySelect as _};
use souk_protocol::{PersonId, Scope, TenantId};

use super::clock::{clock_ms_ago, now_ms};
use super::tenants;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "api_keys")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub tenant_id: String,
    pub name: String,
    pub scopes: String,
    pub secret_hash: Vec<u8>,
    pub pepper_version: i32,
    pub last_four: String,
    pub created_at_ms: i64,
    pub expires_at_ms: Option<i64>,
    pub revoked_at_ms: Option<i64>,
    pub last_used_at_ms: Option<i64>,
    pub made_by: Option<String>,
    pub revoked_by: Option<String>,
    pub person_id: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    #[sea_orm(belongs_to = "tenants::Entity", from = "Column::TenantId", to = "tenants::Column::Id")]
    Tenant,
}

impl Related<tenants::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Tenant.def()
    }
}

impl ActiveModelBehavior for ActiveModel {}

pub(crate) async fn any_exist(connection: &impl ConnectionTrait) -> Result<bool, DbErr> {
    Ok(Entity::find().limit(1).one(connection).await?.is_some())
}

/// A key and whose it is, in one question.
pub(crate) async fn with_tenant(
    connection: &impl ConnectionTrait,
    id: &str,
) -> Result<Option<(Model, tenants::Model)>, DbErr> {
    let found = Entity::find_by_id(id).find_also_related(tenants::Entity).one(connection).await?;
    Ok(found.and_then(|(key, tenant)| Some((key, tenant?))))
}

/// How many keys of a tenant are neither revoked nor expired.
pub(crate) async fn count_usable(connection: &impl ConnectionTrait, tenant_id: &str) -> Result<u64, DbErr> {
    let lives = Condition::any().add(Column::ExpiresAtMs.is_null()).add(Column::ExpiresAtMs.gt(now_ms()));
    let of_tenant = Entity::find().filter(Column::TenantId.eq(tenant_id)).filter(Column::RevokedAtMs.is_null());
    of_tenant.filter(lives).count(connection).await
}

/// All keys of a tenant that were not revoked.
pub(crate) async fn unrevoked_of(connection: &impl ConnectionTrait, tenant_id: &str) -> Result<Vec<Model>, DbErr> {
    let of_tenant = Entity::find().filter(Column::TenantId.eq(tenant_id));
    of_tenant.filter(Column::RevokedAtMs.is_null()).all(connection).await
}

/// The ids of the keys that a person has in a tenant and that were not revoked.
pub(crate) async fn unrevoked_of_person(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    person: &PersonId,
) -> Result<Vec<String>, DbErr> {
    let found = Entity::find().select_only().column(Column::Id).filter(Column::TenantId.eq(tenant.as_str()));
    let of_person = found.filter(Column::PersonId.eq(person.as_str()));
    of_person.filter(Column::RevokedAtMs.is_null()).order_by_asc(Column::Id).into_tuple().all(connection).await
}

/// A key, whose row is locked until the transaction ends: a key that is revoked makes no key meanwhile.
pub(crate) async fn lock(connection: &impl ConnectionTrait, id: &str) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).lock_exclusive().one(connection).await
}

/// The next `limit` keys of a tenant after the id `after`, by id; without those that carry the scope `hidden`.
pub(crate) async fn list(
    connection: &impl ConnectionTrait,
    tenant_id: &str,
    hidden: Option<Scope>,
    after: Option<String>,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let mut query = Entity::find().filter(Column::TenantId.eq(tenant_id)).order_by_asc(Column::Id).limit(limit);
    if let Some(scope) = hidden {
        // The column is names with spaces between, and no scope's name is part of another's.
        query = query.filter(Column::Scopes.not_like(format!("%{scope}%")));
    }
    if let Some(id) = after {
        query = query.filter(Column::Id.gt(id));
    }
    query.all(connection).await
}

pub(crate) async fn insert(connection: &impl ConnectionTrait, row: Model) -> Result<Model, DbErr> {
    row.into_active_model().reset_all().insert(connection).await
}

/// The ids of the keys that were made with any of these.
pub(crate) async fn made_by(connection: &impl ConnectionTrait, ids: &[String]) -> Result<Vec<String>, DbErr> {
    let made = Entity::find().select_only().column(Column::Id).filter(Column::MadeBy.is_in(ids));
    made.into_tuple().all(connection).await
}

/// Those of `ids` that are keys of the tenant and do not carry the scope `hidden`.
pub(crate) async fn shown_of(
    connection: &impl ConnectionTrait,
    tenant_id: &str,
    hidden: Scope,
    ids: Vec<String>,
) -> Result<HashSet<String>, DbErr> {
    let of_tenant = Entity::find().select_only().column(Column::Id).filter(Column::TenantId.eq(tenant_id));
    let shown = of_tenant.filter(Column::Id.is_in(ids)).filter(Column::Scopes.not_like(format!("%{hidden}%")));
    Ok(shown.into_tuple::<String>().all(connection).await?.into_iter().collect())
}

/// The ids of keys that were revoked less than `age` ago.
pub(crate) async fn revoked_within(connection: &impl ConnectionTrait, age: Duration) -> Result<Vec<String>, DbErr> {
    let lately = Expr::col(Column::RevokedAtMs).gte(clock_ms_ago(connection, age));
    Entity::find().select_only().column(Column::Id).filter(lately).into_tuple().all(connection).await
}

/// Those of `ids` that are keys and were not revoked.
pub(crate) async fn unrevoked(connection: &impl ConnectionTrait, ids: &[String]) -> Result<Vec<String>, DbErr> {
    let found = Entity::find().select_only().column(Column::Id).filter(Column::Id.is_in(ids));
    found.filter(Column::RevokedAtMs.is_null()).into_tuple().all(connection).await
}

/// Revokes keys that were not revoked: one that was keeps the moment of the first time and by which key.
pub(crate) async fn revoke(connection: &impl ConnectionTrait, ids: &[String], by: &str) -> Result<(), DbErr> {
    let update = Entity::update_many()
        .col_expr(Column::RevokedAtMs, now_ms().into())
        .col_expr(Column::RevokedBy, by.into())
        .filter(Column::Id.is_in(ids))
        .filter(Column::RevokedAtMs.is_null());
    update.exec(connection).await.map(|_| ())
}

pub(crate) async fn note_use(connection: &impl ConnectionTrait, id: &str, at_ms: i64) -> Result<(), DbErr> {
    let update = Entity::update_many().col_expr(Column::LastUsedAtMs, at_ms.into());
    update.filter(Column::Id.eq(id)).exec(connection).await?;
    Ok(())
}
