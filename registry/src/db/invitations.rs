//! Table `invitations`: who is asked to become a member. A row is used once; what it was is kept.

use std::time::Duration;

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::ExprTrait as _;
use sea_orm::{Condition, IntoActiveModel as _, QueryOrder as _, QuerySelect as _, UpdateMany};
use souk_protocol::TenantId;

use super::clock::{clock_ms_ago, now_ms};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "invitations")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub tenant_id: String,
    pub email: Option<String>,
    pub role: String,
    pub secret_hash: Vec<u8>,
    pub made_by: String,
    pub made_by_person: Option<String>,
    pub created_at_ms: i64,
    pub expires_at_ms: i64,
    pub accepted_at_ms: Option<i64>,
    pub accepted_by: Option<String>,
    pub revoked_at_ms: Option<i64>,
}
no_relations!();

impl Model {
    pub(crate) fn tenant(&self) -> TenantId {
        TenantId::from_stored(&self.tenant_id)
    }

    /// Whether it can be used now.
    pub(crate) fn is_open(&self) -> bool {
        self.accepted_at_ms.is_none() && self.revoked_at_ms.is_none() && self.expires_at_ms > now_ms()
    }
}

pub(crate) async fn insert(connection: &impl ConnectionTrait, row: Model) -> Result<Model, DbErr> {
    row.into_active_model().reset_all().insert(connection).await
}

pub(crate) async fn get(connection: &impl ConnectionTrait, id: &str) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).one(connection).await
}

/// The next `limit` invitations of a tenant after the id `after`, by id.
pub(crate) async fn list(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    after: Option<String>,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let mut query = Entity::find().filter(Column::TenantId.eq(tenant.as_str())).order_by_asc(Column::Id).limit(limit);
    if let Some(id) = after {
        query = query.filter(Column::Id.gt(id));
    }
    query.all(connection).await
}

/// How many invitations of a tenant can be used now.
pub(crate) async fn count_open(connection: &impl ConnectionTrait, tenant: &TenantId) -> Result<u64, DbErr> {
    Entity::find().filter(Column::TenantId.eq(tenant.as_str())).filter(open()).count(connection).await
}

/// Uses an invitation; answers whether it could be used. Of several who do so at once, one is told that it could.
pub(crate) async fn accept(connection: &impl ConnectionTrait, id: &str, person_id: &str) -> Result<bool, DbErr> {
    let update = Entity::update_many()
        .col_expr(Column::AcceptedAtMs, now_ms().into())
        .col_expr(Column::AcceptedBy, person_id.into())
        .filter(Column::Id.eq(id))
        .filter(open());
    Ok(update.exec(connection).await?.rows_affected > 0)
}

/// Takes an invitation back, unless it was used or taken back; answers whether it was not.
pub(crate) async fn revoke(connection: &impl ConnectionTrait, id: &str) -> Result<bool, DbErr> {
    let update = Entity::update_many()
        .col_expr(Column::RevokedAtMs, now_ms().into())
        .filter(Column::Id.eq(id))
        .filter(Column::AcceptedAtMs.is_null())
        .filter(Column::RevokedAtMs.is_null());
    Ok(update.exec(connection).await?.rows_affected > 0)
}

pub(crate) async fn delete_all_of(connection: &impl ConnectionTrait, tenant: &TenantId) -> Result<(), DbErr> {
    Entity::delete_many().filter(Column::TenantId.eq(tenant.as_str())).exec(connection).await.map(|_| ())
}

/// Those of a tenant that a person made and that can be used now.
pub(crate) async fn open_made_by_person(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    person_id: &str,
) -> Result<Vec<Model>, DbErr> {
    let of_tenant = Entity::find().filter(Column::TenantId.eq(tenant.as_str())).filter(open());
    of_tenant.filter(Column::MadeByPerson.eq(person_id)).order_by_asc(Column::Id).all(connection).await
}

/// Those that were made with these keys and can be used now, by their tenants.
pub(crate) async fn open_made_by(connection: &impl ConnectionTrait, keys: &[String]) -> Result<Vec<Model>, DbErr> {
    let made = Entity::find().filter(open()).filter(Column::MadeBy.is_in(keys));
    made.order_by_asc(Column::TenantId).order_by_asc(Column::Id).all(connection).await
}

/// Takes the address out of those that a person used, and of those that were for the person's address.
pub(crate) async fn forget(
    connection: &impl ConnectionTrait,
    person_id: &str,
    email: Option<&str>,
) -> Result<(), DbErr> {
    let mut of_person = Condition::any().add(Column::AcceptedBy.eq(person_id));
    if let Some(email) = email {
        of_person = of_person.add(Column::Email.eq(email));
    }
    without_email().filter(of_person).exec(connection).await.map(|_| ())
}

/// Takes the address out of those that were used, taken back or over for this long.
pub(crate) async fn forget_closed(connection: &impl ConnectionTrait, age: Duration) -> Result<(), DbErr> {
    let before = clock_ms_ago(connection, age);
    let is_old = Condition::any()
        .add(Expr::col(Column::AcceptedAtMs).lt(before.clone()))
        .add(Expr::col(Column::RevokedAtMs).lt(before.clone()))
        .add(Expr::col(Column::ExpiresAtMs).lt(before));
    without_email().filter(Column::Email.is_not_null()).filter(is_old).exec(connection).await.map(|_| ())
}

fn without_email() -> UpdateMany<Entity> {
    Entity::update_many().col_expr(Column::Email, Expr::value(None::<String>))
}

fn open() -> Condition {
    Condition::all()
        .add(Column::AcceptedAtMs.is_null())
        .add(Column::RevokedAtMs.is_null())
        .add(Column::ExpiresAtMs.gt(now_ms()))
}
