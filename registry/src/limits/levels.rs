//! Which levels bind whom.

use sea_orm::{ConnectionTrait, DbErr};
use souk_protocol::limits::Subject;
use souk_protocol::{PersonId, Principal, TeamId, TenantId};

use crate::auth::scopes_from_column;
use crate::db::limits::subject_of;
use crate::db::{MemberRow, api_keys, members, teams};
use crate::error::RegistryError;
use crate::rights::OVER_ALL_KEYS;

/// A subject below the tenant itself, whose limits are the operator's to set.
pub(super) fn subject_below(tenant: &TenantId, level: &str, id: &str) -> Result<Subject, RegistryError> {
    subject_of(tenant, level, id).filter(|subject| !matches!(subject, Subject::Tenant(_))).ok_or_else(|| {
        let given: String = level.chars().take(40).collect();
        let detail = format!(
            "the level is `team`, `member` or `key`, given `{given}`; operators set a tenant's with PATCH /tenants/{{tenant}}/limits"
        );
        RegistryError::bad_request("invalid_path", detail)
    })
}

/// The levels that bind a subject which the caller may see; another tenant's is told apart from none by nothing.
pub(super) async fn levels_seen(
    connection: &impl ConnectionTrait,
    principal: &Principal,
    tenant: &TenantId,
    subject: &Subject,
) -> Result<Vec<Subject>, RegistryError> {
    let not_found = || RegistryError::NotFound { what: subject.level(), name: subject.id().to_owned() };
    if let Subject::Key(key) = subject
        && !principal.may(OVER_ALL_KEYS)
    {
        // Keys of operators are not shown to tenants.
        let key = api_keys::get(connection, key.as_str()).await?.ok_or_else(not_found)?;
        if scopes_from_column(&key.scopes).contains(&OVER_ALL_KEYS) {
            return Err(not_found());
        }
    }
    levels_down_to(connection, tenant, subject).await?.ok_or_else(not_found)
}

/// The levels that bind a subject of a tenant, broadest first and its own last; `None` where the tenant has no such subject.
/// A key of a person who has left is bound as a service's of no team.
pub(crate) async fn levels_down_to(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    subject: &Subject,
) -> Result<Option<Vec<Subject>>, DbErr> {
    let mut levels = vec![Subject::Tenant(tenant.clone())];
    let team_of = |id: Option<String>| id.map(|id| Subject::Team(TeamId::from_stored(id)));
    let member = async |person: &str| members::get(connection, tenant, person).await;
    match subject {
        Subject::Tenant(of) if of != tenant => return Ok(None),
        Subject::Tenant(_) => return Ok(Some(levels)),
        Subject::Team(team) => {
            if teams::of_tenant(connection, tenant, team.as_str()).await?.is_none() {
                return Ok(None);
            }
        }
        Subject::Member(of, _) if of != tenant => return Ok(None),
        Subject::Member(_, person) => match member(person.as_str()).await? {
            Some(member) => levels.extend(team_of(member.team_id)),
            None => return Ok(None),
        },
        Subject::Key(key) => {
            let found = api_keys::get(connection, key.as_str()).await?;
            let Some(key) = found.filter(|key| key.tenant_id == tenant.as_str()) else { return Ok(None) };
            let person: Option<MemberRow> = match &key.person_id {
                Some(person) => member(person).await?,
                None => None,
            };
            match person {
                Some(member) => {
                    let person = PersonId::from_stored(&member.person_id);
                    levels.extend(team_of(member.team_id));
                    levels.push(Subject::Member(tenant.clone(), person));
                }
                None => levels.extend(team_of(key.team_id)),
            }
        }
    }
    levels.push(subject.clone());
    Ok(Some(levels))
}
