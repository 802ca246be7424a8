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
    /// The key or session that it was made with; `None` where the host made it.
    pub made_by: Option<String>,
    pub revoked_by: Option<String>,
    /// Whose it is; `None` for a service's.
    pub person_id: Option<String>,
    /// Patterns with spaces between; `None` for all that the tenant may call.
    pub models: Option<String>,
    /// The key that follows it.
    pub replaced_by: Option<String>,
    /// Why it was revoked, where nobody just asked for it.
    pub revoked_for: Option<String>,
    /// The team that a service's key is of; `None`: of none. A person's is of the team that the person is of.
    pub team_id: Option<String>,
}

/// Which keys of a tenant a caller sees.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    /// None with this scope.
    pub(crate) without: Option<Scope>,
    /// Only this person's.
    pub(crate) of: Option<PersonId>,
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

impl Model {
    pub(crate) fn tenant(&self) -> TenantId {
        TenantId::from_stored(&self.tenant_id)
    }
}

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
pub(crate) async fn count_usable(connection: &impl ConnectionTrait, tenant: &TenantId) -> Result<u64, DbErr> {
    unrevoked_and(lives(), tenant).count(connection).await
}

/// The keys of a tenant that are neither revoked nor expired, by id.
pub(crate) async fn usable_of(connection: &impl ConnectionTrait, tenant: &TenantId) -> Result<Vec<Model>, DbErr> {
    unrevoked_and(lives(), tenant).order_by_asc(Column::Id).all(connection).await
}

/// All keys of a tenant that were not revoked.
pub(crate) async fn unrevoked_of(connection: &impl ConnectionTrait, tenant: &TenantId) -> Result<Vec<Model>, DbErr> {
    unrevoked_and(Condition::all(), tenant).all(connection).await
}

/// The ids of a person's keys in a tenant that were not revoked.
pub(crate) async fn unrevoked_of_person(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    person: &PersonId,
) -> Result<Vec<String>, DbErr> {
    let of_person = Condition::all().add(Column::PersonId.eq(person.as_str()));
    unrevoked_and(of_person, tenant).select_only().column(Column::Id).into_tuple().all(connection).await
}

/// Takes the names out of all keys of a person: programs call them after the person's machine.
pub(crate) async fn forget_names_of(connection: &impl ConnectionTrait, person_id: &str) -> Result<(), DbErr> {
    let update = Entity::update_many().col_expr(Column::Name, "".into());
    update.filter(Column::PersonId.eq(person_id)).exec(connection).await.map(|_| ())
}

pub(crate) async fn get(connection: &impl ConnectionTrait, id: &str) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).one(connection).await
}

/// A key, whose row is locked until the transaction ends: a key that is revoked makes no key meanwhile.
pub(crate) async fn lock(connection: &impl ConnectionTrait, id: &str) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).lock_exclusive().one(connection).await
}

/// The keys with these ids.
pub(crate) async fn by_ids(connection: &impl ConnectionTrait, ids: &[String]) -> Result<Vec<Model>, DbErr> {
    Entity::find().filter(Column::Id.is_in(ids)).all(connection).await
}

/// The next `limit` keys of a tenant that are `shown`, after the id `after`, by id.
pub(crate) async fn list(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    shown: &Shown,
    after: Option<String>,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let of_tenant = Entity::find().filter(Column::TenantId.eq(tenant.as_str())).filter(shown.condition());
    let after = Condition::all().add_option(after.map(|id| Column::Id.gt(id)));
    of_tenant.filter(after).order_by_asc(Column::Id).limit(limit).all(connection).await
}

/// Those of `ids` that are keys of the tenant and are `shown`.
pub(crate) async fn shown_of(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    shown: &Shown,
    ids: Vec<String>,
) -> Result<HashSet<String>, DbErr> {
    let of_tenant = Entity::find().select_only().column(Column::Id).filter(Column::TenantId.eq(tenant.as_str()));
    let found = of_tenant.filter(Column::Id.is_in(ids)).filter(shown.condition());
    Ok(found.into_tuple::<String>().all(connection).await?.into_iter().collect())
}

pub(crate) async fn insert(connection: &impl ConnectionTrait, row: Model) -> Result<Model, DbErr> {
    row.into_active_model().reset_all().insert(connection).await
}

/// The ids of the keys that were made with any of these.
pub(crate) async fn made_by(connection: &impl ConnectionTrait, ids: &[String]) -> Result<Vec<String>, DbErr> {
    let made = Entity::find().select_only().column(Column::Id).filter(Column::MadeBy.is_in(ids));
    made.into_tuple().all(connection).await
}

/// The ids of keys that were revoked less than `age` ago.
pub(crate) async fn revoked_within(connection: &impl ConnectionTrait, age: Duration) -> Result<Vec<String>, DbErr> {
    let lately = Expr::col(Column::RevokedAtMs).gte(clock_ms_ago(connection, age));
    Entity::find().select_only().column(Column::Id).filter(lately).into_tuple().all(connection).await
}

/// Those of `ids` that are keys and were not revoked, each with its tenant's id, by id.
pub(crate) async fn unrevoked(
    connection: &impl ConnectionTrait,
    ids: &[String],
) -> Result<Vec<(String, String)>, DbErr> {
    let found = Entity::find().select_only().columns([Column::Id, Column::TenantId]).filter(Column::Id.is_in(ids));
    found.filter(Column::RevokedAtMs.is_null()).order_by_asc(Column::Id).into_tuple().all(connection).await
}

/// Revokes keys that were not revoked: one that was keeps the moment of the first time, by which key, and why.
pub(crate) async fn revoke(
    connection: &impl ConnectionTrait,
    ids: &[String],
    by: Option<&str>,
    why: Option<&'static str>,
) -> Result<(), DbErr> {
    let update = Entity::update_many()
        .col_expr(Column::RevokedAtMs, now_ms().into())
        .col_expr(Column::RevokedBy, by.into())
        .col_expr(Column::RevokedFor, why.into())
        .filter(Column::Id.is_in(ids))
        .filter(Column::RevokedAtMs.is_null());
    update.exec(connection).await.map(|_| ())
}

/// Says which key follows another, and when that one ends.
pub(crate) async fn replace(
    connection: &impl ConnectionTrait,
    id: &str,
    by: &str,
    expires_at_ms: i64,
) -> Result<(), DbErr> {
    let update = Entity::update_many()
        .col_expr(Column::ReplacedBy, by.into())
        .col_expr(Column::ExpiresAtMs, expires_at_ms.into());
    update.filter(Column::Id.eq(id)).exec(connection).await.map(|_| ())
}

/// Leaves the keys of a team without one; answers how many they were.
pub(crate) async fn leave_team(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    team_id: &str,
) -> Result<u64, DbErr> {
    let update = Entity::update_many().col_expr(Column::TeamId, Option::<String>::None.into());
    let of_team = update.filter(Column::TenantId.eq(tenant.as_str())).filter(Column::TeamId.eq(team_id));
    Ok(of_team.exec(connection).await?.rows_affected)
}

pub(crate) async fn note_use(connection: &impl ConnectionTrait, id: &str, at_ms: i64) -> Result<(), DbErr> {
    let update = Entity::update_many().col_expr(Column::LastUsedAtMs, at_ms.into());
    update.filter(Column::Id.eq(id)).exec(connection).await?;
    Ok(())
}

fn unrevoked_and(condition: Condition, tenant: &TenantId) -> Select<Entity> {
    let of_tenant = Entity::find().filter(Column::TenantId.eq(tenant.as_str()));
    of_tenant.filter(Column::RevokedAtMs.is_null()).filter(condition)
}

fn lives() -> Condition {
    Condition::any().add(Column::ExpiresAtMs.is_null()).add(Column::ExpiresAtMs.gt(now_ms()))
}

impl Shown {
    fn condition(&self) -> Condition {
        // The column is names with spaces between, and no scope's name is part of another's.
        let without = self.without.map(|scope| Column::Scopes.not_like(format!("%{scope}%")));
        let of = self.of.as_ref().map(|person| Column::PersonId.eq(person.as_str()));
        Condition::all().add_option(without).add_option(of)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_query_removes_a_key() {
        // A log, an audit entry or a bill that names a key must be readable for ever.
        let source = include_str!("api_keys.rs");
        let queries = source.split("#[cfg(test)]").next().expect("what comes before the tests");
        assert!(!queries.contains("delete") && !queries.contains("DELETE"), "keys are revoked, never removed");
    }
}
