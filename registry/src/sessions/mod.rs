//! Sessions: who is signed in, on the server's side. A browser has a cookie with an id and a secret; of the secret the
//! database has the hash. A session is looked up at every request, with the membership that it acts by, so one that is
//! ended or whose member has left is refused by every registry from the next request on.
//!
//! It ends when it was not used for `sign_in.session_idle_s`, in any case after `sign_in.session_s`, when it is ended, and
//! when its person leaves a tenant or loses scopes. Tokens that it was exchanged for end with it: its id is withdrawn as a
//! key's is.
//!
//! A session acts for one tenant at a time, which the person chooses. One that began with a link that an owner made is
//! confined to that owner's tenant: an owner can let a member in, and must not get into other tenants by that.

mod cookie;

use std::time::Duration;

use sea_orm::{DatabaseTransaction, DbErr};
use souk_protocol::{KeyId, PersonId, Principal, TenantId};

use crate::Registry;
use crate::db::{
    MAX_IN, PersonRow, SessionRow, TenantRow, begin_write, members, ms_in, now_ms, persons, sessions, withdrawals,
};
use crate::error::RegistryError;
use crate::people::{Role, Secret};
use crate::withdrawals::Withdrawn;

pub(crate) use cookie::{LOGIN_COOKIE, SESSION_COOKIE, SameSite, cookie_in, gone_cookie, new_cookie};

/// What the id of a session begins with.
pub(crate) const PREFIX: &str = "ses";
/// Whether what was presented with this id is a session, and no key: ids of keys have no `_`.
pub(crate) fn is_session(id: &str) -> bool {
    id.strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with('_'))
}

/// What a token against forged requests is derived for.
const CSRF: &str = "csrf";
/// The use of a session is written at most this often.
const USE_RESOLUTION_MS: i64 = 60_000;
/// Sessions of a person at a time: a further one ends the oldest.
const MAX_OF_PERSON: usize = 50;
/// Tenants of a person that are listed.
const MAX_TENANTS: u64 = 200;

/// How a person signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignedInBy {
    /// A provider of identities said who it is.
    Provider,
    /// They had a link that signs in once.
    Link,
    /// They had the link of an invitation.
    Invitation,
}

/// A session to begin.
pub(crate) struct NewSession<'a> {
    pub(crate) person: &'a PersonRow,
    pub(crate) by: SignedInBy,
    /// The tenant that it begins with; `None` for one of the person's.
    pub(crate) tenant_id: Option<String>,
    /// Whether it is to have no other.
    pub(crate) is_confined: bool,
    /// What the browser calls itself.
    pub(crate) client: Option<String>,
    /// The session that was presented, which this one takes the place of.
    pub(crate) instead_of: Option<&'a str>,
}

/// A person with a live session.
pub(crate) struct SignedIn {
    pub(crate) session: SessionRow,
    pub(crate) person: PersonRow,
    /// The tenant that it acts for, and as what; `None` for a person who is a member nowhere, or has left.
    pub(crate) tenant: Option<(TenantRow, Role)>,
    secret: Secret,
}

impl SignedInBy {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Link => "link",
            Self::Invitation => "invitation",
        }
    }
}

impl SignedIn {
    /// Who calls, if the session acts for a tenant.
    pub(crate) fn principal(&self) -> Option<Principal> {
        let (tenant, role) = self.tenant.as_ref()?;
        Some(Principal {
            tenant: TenantId::from_stored(&tenant.id),
            tenant_name: tenant.name.clone(),
            key: KeyId::from_stored(&self.session.id),
            person: Some(PersonId::from_stored(&self.person.id)),
            scopes: role.scopes(),
            models: None,
        })
    }

    /// Whether the session may see and end another of the same person: one that is confined, which somebody else's link
    /// may have begun, those of its tenant alone.
    fn reaches(&self, other: &SessionRow) -> bool {
        !self.session.is_confined || (other.is_confined && other.tenant_id == self.session.tenant_id)
    }

    /// What a page of ours sends along with a call that changes something, and a page of others cannot know.
    pub(crate) fn csrf_token(&self) -> String {
        self.secret.derive(CSRF)
    }

    /// Whether this is that.
    pub(crate) fn is_csrf_token(&self, presented: &str) -> bool {
        self.secret.derives(CSRF, presented)
    }

    /// Whether a provider of identities said who it is.
    pub(crate) fn is_by_provider(&self) -> bool {
        self.session.signed_in_by == SignedInBy::Provider.as_str()
    }
}

impl Registry {
    /// Begins a session in a transaction that excludes all other writers; answers what the cookie is to be, and what is
    /// to be told after the commit: the session that it takes the place of, and the oldest where there are too many.
    pub(crate) async fn begin_session(
        &self,
        transaction: &DatabaseTransaction,
        new: NewSession<'_>,
    ) -> Result<(Secret, Vec<Withdrawn>), RegistryError> {
        let person_id = &new.person.id;
        let tenant_id = match new.tenant_id {
            Some(tenant_id) => Some(tenant_id),
            None => members::of_person(transaction, person_id, 1).await?.pop().map(|(member, _)| member.tenant_id),
        };
        let mut ended = sessions::ids_of_persons(transaction, [person_id.as_str()]).await?;
        ended.truncate((ended.len() + 1).saturating_sub(MAX_OF_PERSON));
        ended.extend(new.instead_of.map(str::to_owned));
        let withdrawn = end_sessions(transaction, &self.owner, ended).await?;
        let (secret, now_ms) = (Secret::generate(PREFIX), now_ms());
        let row = SessionRow {
            id: secret.id().to_owned(),
            secret_hash: secret.hash(),
            person_id: person_id.clone(),
            tenant_id,
            is_confined: new.is_confined,
            signed_in_by: new.by.as_str().to_owned(),
            client: new.client,
            created_at_ms: now_ms,
            used_at_ms: now_ms,
            expires_at_ms: ms_in(self.config.sign_in.session),
            ended_at_ms: None,
        };
        sessions::insert(transaction, row).await?;
        Ok((secret, withdrawn))
    }

    /// Who presents this cookie, if the session lives. Notes that it was used.
    pub(crate) async fn signed_in(&self, presented: &str) -> Result<SignedIn, RegistryError> {
        let secret = Secret::parse(PREFIX, presented).ok_or(RegistryError::SessionInvalid)?;
        let found = sessions::get(&self.db, secret.id()).await?.filter(|row| secret.is(&row.secret_hash));
        let session = found.ok_or(RegistryError::SessionInvalid)?;
        let (now_ms, idle_ms) = (now_ms(), self.config.sign_in.idle_ms());
        if session.is_over(now_ms, idle_ms) {
            return Err(RegistryError::SessionOver);
        }
        let person = persons::get(&self.db, &session.person_id).await?.ok_or(RegistryError::SessionOver)?;
        let tenant = match &session.tenant_id {
            None => None,
            Some(tenant_id) => {
                let found = members::with_tenant(&self.db, &TenantId::from_stored(tenant_id), &person.id).await?;
                found.map(|(member, tenant)| (tenant, Role::from_column(&member.role)))
            }
        };
        if tenant.is_none() && session.is_confined {
            return Err(RegistryError::SessionOver);
        }
        if now_ms - session.used_at_ms >= USE_RESOLUTION_MS.min(idle_ms / 4) {
            let (db, id) = (self.db.clone(), session.id.clone());
            let note = async move { sessions::note_use(&db, &id, now_ms).await };
            self.authenticator.noting.note(&session.id, note);
        }
        Ok(SignedIn { session, person, tenant, secret })
    }

    /// The sessions of the person that live, newest first.
    pub(crate) async fn own_sessions(&self, signed_in: &SignedIn) -> Result<Vec<SessionRow>, RegistryError> {
        let since_ms = now_ms() - self.config.sign_in.idle_ms();
        let mut live = sessions::of_person(&self.db, &signed_in.person.id, since_ms, MAX_OF_PERSON as u64).await?;
        live.retain(|session| signed_in.reaches(session));
        Ok(live)
    }

    /// Ends one of the person's sessions: it is refused from now on, and its tokens within a second everywhere.
    pub(crate) async fn end_session(&self, signed_in: &SignedIn, id: &str) -> Result<(), RegistryError> {
        let transaction = begin_write(&self.db).await?;
        let found = sessions::get(&transaction, id).await?;
        let found = found.filter(|row| row.person_id == signed_in.person.id && signed_in.reaches(row));
        let row = found.ok_or_else(|| RegistryError::NotFound { what: "session", name: id.to_owned() })?;
        if row.ended_at_ms.is_some() {
            return Ok(());
        }
        let withdrawn = end_sessions(&transaction, &self.owner, vec![row.id]).await?;
        transaction.commit().await?;
        self.withdrawals.tell(withdrawn);
        Ok(())
    }

    /// The tenants that the person can choose for this session, by name.
    pub(crate) async fn tenants_of(&self, signed_in: &SignedIn) -> Result<Vec<(TenantRow, Role)>, RegistryError> {
        if signed_in.session.is_confined {
            return Ok(signed_in.tenant.clone().into_iter().collect());
        }
        let found = members::of_person(&self.db, &signed_in.person.id, MAX_TENANTS).await?;
        Ok(found.into_iter().map(|(member, tenant)| (tenant, Role::from_column(&member.role))).collect())
    }

    /// Lets the session act for another tenant of the person's.
    pub(crate) async fn choose_tenant(
        &self,
        signed_in: &SignedIn,
        name: &str,
    ) -> Result<(TenantRow, Role), RegistryError> {
        let own = signed_in.tenant.as_ref().map(|(tenant, _)| tenant.name.as_str());
        // Before anything is looked up: whoever had the link made hears nothing of the person's other tenants.
        if signed_in.session.is_confined && own != Some(name) {
            return Err(RegistryError::SessionConfined);
        }
        let not_found = || RegistryError::NotFound { what: "tenant", name: name.to_owned() };
        let tenant = self.tenant_named(name).await?;
        let member = members::get(&self.db, &tenant.tenant(), &signed_in.person.id).await?.ok_or_else(not_found)?;
        if !sessions::choose(&self.db, &signed_in.session.id, &tenant.tenant()).await? {
            return Err(RegistryError::SessionOver);
        }
        Ok((tenant, Role::from_column(&member.role)))
    }

    /// How long a session lives at most.
    pub(crate) fn session_lives(&self) -> Duration {
        self.config.sign_in.session
    }

    /// How long what is made with the session now may live: no longer than the session if it is not used again.
    pub(crate) fn session_left(&self, session: &SessionRow) -> Duration {
        let left_ms = (session.expires_at_ms - now_ms()).min(self.config.sign_in.idle_ms());
        Duration::from_millis(u64::try_from(left_ms).unwrap_or(0))
    }
}

/// Ends sessions in a transaction that excludes all other writers; answers what is to be told after the commit. `told_by` is
/// the registry that tells it itself.
pub(crate) async fn end_sessions(
    transaction: &DatabaseTransaction,
    told_by: &str,
    ids: Vec<String>,
) -> Result<Vec<Withdrawn>, DbErr> {
    for some in ids.chunks(MAX_IN) {
        sessions::end(transaction, some).await?;
    }
    let withdrawn: Vec<_> = ids.into_iter().map(|id| Withdrawn::Key(KeyId::from_stored(id))).collect();
    withdrawals::insert_all(transaction, told_by, withdrawn.iter().map(Withdrawn::to_row)).await?;
    Ok(withdrawn)
}
