//! What a person's role in a tenant lets keys of that person do: looked up at every use of such a key.

use sea_orm::{ConnectionTrait, DbErr};
use souk_protocol::{PersonId, Scopes, TenantId};

use super::columns::scopes_from_column;
use crate::db::{KeyRow, members};
use crate::people::Role;

/// What the person may do in the tenant now; `None` if it is no member.
pub(crate) async fn scopes_of(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    person: &PersonId,
) -> Result<Option<Scopes>, DbErr> {
    let member = members::get(connection, tenant, person.as_str()).await?;
    Ok(member.map(|member| Role::from_column(&member.role).scopes()))
}

/// What a key may do now: what it is for, and where it is a person's, no more than that person may. `None` if the person
/// is no member any more.
pub(crate) async fn effective(connection: &impl ConnectionTrait, key: &KeyRow) -> Result<Option<Scopes>, DbErr> {
    let own = scopes_from_column(&key.scopes);
    let Some(person) = &key.person_id else { return Ok(Some(own)) };
    let (tenant, person) = (key.tenant(), PersonId::from_stored(person));
    let of_role = scopes_of(connection, &tenant, &person).await?;
    Ok(of_role.map(|of_role| own.intersection(&of_role).copied().collect()))
}
