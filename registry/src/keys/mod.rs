//! API keys of a tenant: a person's or a service's. How a presented key is verified is in [`crate::auth`].
//!
//! A key never outlives or outranks what it is made with, nor what the tenant's policy allows. A person's key may at each
//! use do what it is for and the person's role in the tenant still allows ([`crate::auth::effective`]); it ends when the
//! person leaves ([`revoke_of_person`]), which a service's does not. The row of a key is never removed: what names it
//! stays readable.

mod leaked;
mod make;
mod policy;
mod revoke;
mod rotate;

use sea_orm::{ConnectionTrait, DbErr};
use souk_protocol::{AllowedModels, PersonId, Principal, Scopes, TeamId, TenantId};

use crate::Registry;
use crate::auth::{ApiKey, Authenticator, models_to_column, scopes_from_column, scopes_to_column};
use crate::db::api_keys::Shown;
use crate::db::{KeyRow, api_keys, now_ms};
use crate::error::RegistryError;
use crate::rights::{Action, OVER_ALL_KEYS, Reach, require};
use crate::slice::Slice;

pub(crate) use leaked::{LeakReport, MAX_REPORTS};
pub(crate) use make::{KeyRequest, Whose};
pub(crate) use policy::{Breaking, NewPolicy, Policy, Rule};
pub(crate) use revoke::{Made, Why, revoke_of_person, take_back};
pub(crate) use rotate::{Rotated, Rotation};

/// What a new key is made from.
pub(crate) struct NewKey {
    pub(crate) tenant_id: String,
    /// Whose it is; `None` for a service's.
    pub(crate) person: Option<PersonId>,
    pub(crate) name: String,
    pub(crate) scopes: Scopes,
    /// `None`: all that the tenant may call.
    pub(crate) models: Option<AllowedModels>,
    pub(crate) expires_at_ms: Option<i64>,
    /// The key or session that it is made with; `None` on the host.
    pub(crate) made_by: Option<String>,
    /// The team that a service's key is of; `None`: of none.
    pub(crate) team: Option<TeamId>,
}

/// The keys that a caller may see, revoke and rotate.
enum Theirs {
    /// Every key: the caller is an operator.
    All,
    /// Those of a tenant, but for admin keys.
    OfTenant(TenantId),
    /// A person's own in a tenant.
    OfPerson(TenantId, PersonId),
}

impl Registry {
    /// A tenant's keys that the caller may see, revoked ones included, by id. `tenant` is a name; `None` means the caller's
    /// own.
    pub(crate) async fn list_keys(
        &self,
        principal: &Principal,
        tenant: Option<&str>,
        slice: Slice,
    ) -> Result<Vec<KeyRow>, RegistryError> {
        let shown = Theirs::of(principal, require(principal, Action::ListKeys)?).shown();
        let tenant = self.tenant_meant(principal, tenant).await?;
        let limit = slice.with_one_more();
        let mut rows = api_keys::list(&self.db, &tenant, &shown, slice.after, limit).await?;
        if shown.without.is_some() || shown.of.is_some() {
            // Which keys made, revoked and follow them, if the caller may see those.
            let named = rows.iter().flat_map(|row| [&row.made_by, &row.revoked_by, &row.replaced_by]);
            let named = named.flatten().cloned().collect();
            let seen = api_keys::shown_of(&self.db, &tenant, &shown, named).await?;
            for row in &mut rows {
                for id in [&mut row.made_by, &mut row.revoked_by, &mut row.replaced_by] {
                    id.take_if(|id| !seen.contains(id));
                }
            }
        }
        Ok(rows)
    }
}

impl Theirs {
    /// Those of a caller whose action reaches so far.
    fn of(principal: &Principal, reach: Reach) -> Self {
        match &principal.person {
            _ if principal.may(OVER_ALL_KEYS) => Self::All,
            Some(person) if reach == Reach::Persons => Self::OfPerson(principal.tenant.clone(), person.clone()),
            _ => Self::OfTenant(principal.tenant.clone()),
        }
    }

    /// Whether the key is among them.
    fn have(&self, key: &KeyRow) -> bool {
        let is_of = |tenant: &TenantId| key.tenant_id == tenant.as_str();
        match self {
            Self::All => true,
            Self::OfTenant(tenant) => is_of(tenant) && !scopes_from_column(&key.scopes).contains(&OVER_ALL_KEYS),
            Self::OfPerson(tenant, person) => is_of(tenant) && key.person_id.as_deref() == Some(person.as_str()),
        }
    }

    /// The same within one tenant, for a query.
    fn shown(&self) -> Shown {
        match self {
            Self::All => Shown::default(),
            Self::OfTenant(_) => Shown { without: Some(OVER_ALL_KEYS), of: None },
            Self::OfPerson(_, person) => Shown { without: None, of: Some(person.clone()) },
        }
    }
}

/// Makes a key and stores its hash. The key itself is nowhere but in the answer.
pub(crate) async fn insert_key(
    connection: &impl ConnectionTrait,
    authenticator: &Authenticator,
    new: NewKey,
) -> Result<(KeyRow, ApiKey), DbErr> {
    let key = ApiKey::generate();
    let (pepper_version, secret_hash) = authenticator.hash_new(&key);
    let row = KeyRow {
        id: key.id().as_str().to_owned(),
        tenant_id: new.tenant_id,
        name: new.name,
        scopes: scopes_to_column(&new.scopes),
        secret_hash: secret_hash.to_vec(),
        pepper_version,
        last_four: key.last_four().to_owned(),
        created_at_ms: now_ms(),
        expires_at_ms: new.expires_at_ms,
        revoked_at_ms: None,
        last_used_at_ms: None,
        made_by: new.made_by,
        revoked_by: None,
        person_id: new.person.map(|person| person.to_string()),
        models: new.models.as_ref().map(models_to_column),
        replaced_by: None,
        revoked_for: None,
        team_id: new.team.map(|team| team.to_string()),
    };
    Ok((api_keys::insert(connection, row).await?, key))
}
