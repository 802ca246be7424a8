//! Table `sign_in_links`: links that sign a person in, once. Who uses one removes its row.

use std::time::Duration;

use sea_orm::IntoActiveModel as _;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::ExprTrait as _;

use souk_protocol::TenantId;

use super::clock::clock_ms_ago;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "sign_in_links")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub secret_hash: Vec<u8>,
    pub person_id: String,
    pub tenant_id: Option<String>,
    pub made_by: Option<String>,
    pub made_by_person: Option<String>,
    pub created_at_ms: i64,
    pub expires_at_ms: i64,
}
no_relations!();

pub(crate) async fn insert(connection: &impl ConnectionTrait, row: Model) -> Result<Model, DbErr> {
    row.into_active_model().reset_all().insert(connection).await
}

pub(crate) async fn get(connection: &impl ConnectionTrait, id: &str) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).one(connection).await
}

/// Uses a link; answers whether it was still there. Of several who do so at once, one is told that it was.
pub(crate) async fn take(connection: &impl ConnectionTrait, id: &str) -> Result<bool, DbErr> {
    Ok(Entity::delete_by_id(id).exec(connection).await?.rows_affected > 0)
}

/// Removes all links of a person.
pub(crate) async fn delete_of_person(connection: &impl ConnectionTrait, person_id: &str) -> Result<(), DbErr> {
    Entity::delete_many().filter(Column::PersonId.eq(person_id)).exec(connection).await.map(|_| ())
}

/// Removes the links of a person that sign in to this tenant alone, or those that are confined to none.
pub(crate) async fn delete_like(
    connection: &impl ConnectionTrait,
    person_id: &str,
    confined_to: Option<&str>,
) -> Result<(), DbErr> {
    let of_person = Entity::delete_many().filter(Column::PersonId.eq(person_id));
    let alike = match confined_to {
        Some(tenant) => Column::TenantId.eq(tenant),
        None => Column::TenantId.is_null(),
    };
    of_person.filter(alike).exec(connection).await.map(|_| ())
}

/// Removes the links of a person that sign in to a tenant, alone or with others.
pub(crate) async fn delete_of_member(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    person_id: &str,
) -> Result<(), DbErr> {
    delete_like(connection, person_id, Some(tenant.as_str())).await?;
    delete_like(connection, person_id, None).await
}

/// Removes the links that sign in to a tenant alone and that a person made.
pub(crate) async fn delete_made_by_person(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    person_id: &str,
) -> Result<(), DbErr> {
    let of_tenant = Entity::delete_many().filter(Column::TenantId.eq(tenant.as_str()));
    of_tenant.filter(Column::MadeByPerson.eq(person_id)).exec(connection).await.map(|_| ())
}

/// Removes the links that were made with these keys.
pub(crate) async fn delete_made_by(connection: &impl ConnectionTrait, keys: &[String]) -> Result<(), DbErr> {
    Entity::delete_many().filter(Column::MadeBy.is_in(keys)).exec(connection).await.map(|_| ())
}

/// Removes links whose time is over.
pub(crate) async fn delete_expired(connection: &impl ConnectionTrait) -> Result<(), DbErr> {
    let is_over = Expr::col(Column::ExpiresAtMs).lt(clock_ms_ago(connection, Duration::ZERO));
    Entity::delete_many().filter(is_over).exec(connection).await.map(|_| ())
}
