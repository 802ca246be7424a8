//! Links that sign in once, and links of invitations.
//!
//! A link that an owner made begins a session for that owner's tenant alone; one that the operator or the host made is for
//! the person as a whole. A new link takes the place of the person's others.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DbErr};
use serde::Serialize;
use serde_json::json;
use souk_http::public_url::PublicUrl;
use souk_protocol::{Principal, Scope, TenantId};

use crate::Registry;
use crate::audit::{Act, Actor, INSTALLATION, append};
use crate::config::RegistryConfig;
use crate::db::{
    LinkRow, PersonRow, begin_write, begin_write_of, members, ms_in, now_ms, persons, sessions, sign_in_links, tenants,
};
use crate::error::RegistryError;
use crate::idempotency::Once;
use crate::offline::{OfflineError, open_database};
use crate::people::{Proof, Role, Secret};
use crate::rights::{Action, require};
use crate::sessions::{NewSession, SignedIn, SignedInBy};

/// What the id of a link begins with.
const PREFIX: &str = "lnk";

/// Who arrives: what the browser calls itself, and the session that it presented, if that lives.
pub(crate) struct Arrival {
    pub(crate) client: Option<String>,
    pub(crate) signed_in: Option<SignedIn>,
}

impl Registry {
    /// Makes a link that signs a member in, once. Nobody makes one for who may more than they. `shape` makes the answer
    /// that is kept for an `Idempotency-Key`, which has no link.
    pub(crate) async fn make_link<A: Serialize>(
        &self,
        principal: &Principal,
        tenant: Option<&str>,
        person_id: &str,
        once: &Once,
        shape: impl FnOnce(LinkRow) -> A,
    ) -> Result<(LinkRow, String), RegistryError> {
        require(principal, Action::CreateSignInLink)?;
        self.links_are_on()?;
        let public_url = self.public_url()?;
        let tenant = self.tenant_meant(principal, tenant).await?;
        let transaction = begin_write_of(&self.db, &tenant).await?;
        let not_found = || RegistryError::NotFound { what: "member", name: person_id.to_owned() };
        let member = members::get(&transaction, &tenant, person_id).await?.ok_or_else(not_found)?;
        let now = self.require_still(&transaction, principal, Action::CreateSignInLink).await?;
        let more = Role::from_column(&member.role).scopes().into_iter().find(|scope| !now.may(*scope));
        if let Some(missing) = more {
            return Err(RegistryError::ScopeNotHeld(missing));
        }
        let confined_to = (!principal.may(Scope::Admin)).then(|| tenant.to_string());
        let made_by =
            MadeBy { key: Some(principal.key.to_string()), person: principal.person.as_ref().map(ToString::to_string) };
        let (row, secret) =
            insert_link(&transaction, person_id, confined_to, made_by, self.config.sign_in.link).await?;
        let details = json!({ "link": row.id });
        let act = Act { tenant_id: tenant.as_str(), action: "sign_in_link.created", subject: person_id, details };
        append(&transaction, Actor::of(principal), act).await?;
        once.keep_in(&transaction, || shape(row.clone())).await?;
        transaction.commit().await?;
        tracing::info!(person.id = person_id, by.key = %principal.key, "Made a link that signs {person_id} in");
        Ok((row, address_of(public_url, &secret)))
    }

    /// The link whose end this is, if it can be used now. Looking at one does not use it.
    pub(crate) async fn link_of(&self, presented: &str) -> Result<LinkRow, RegistryError> {
        self.links_are_on()?;
        let secret = Secret::parse(PREFIX, presented).ok_or(RegistryError::LinkUnknown)?;
        // One that was used is gone.
        let row = sign_in_links::get(&self.db, secret.id()).await?.filter(|row| secret.is(&row.secret_hash));
        let row = row.ok_or(RegistryError::LinkUnknown)?;
        if row.expires_at_ms > now_ms() { Ok(row) } else { Err(RegistryError::LinkOver) }
    }

    /// Whom a link signs in.
    pub(crate) async fn person_of_link(&self, link: &LinkRow) -> Result<PersonRow, RegistryError> {
        persons::get(&self.db, &link.person_id).await?.ok_or(RegistryError::LinkUnknown)
    }

    /// Uses a link; answers the session's cookie.
    pub(crate) async fn sign_in_by_link(&self, presented: &str, arrival: Arrival) -> Result<Secret, RegistryError> {
        let link = self.link_of(presented).await?;
        let transaction = begin_write(&self.db).await?;
        if !sign_in_links::take(&transaction, &link.id).await? {
            return Err(RegistryError::LinkUnknown);
        }
        let person = persons::get(&transaction, &link.person_id).await?.ok_or(RegistryError::LinkUnknown)?;
        let new = NewSession {
            person: &person,
            by: SignedInBy::Link,
            is_confined: link.tenant_id.is_some(),
            tenant_id: link.tenant_id,
            client: arrival.client,
            instead_of: arrival.signed_in.as_ref().map(|signed_in| signed_in.session.id.as_str()),
        };
        let (cookie, withdrawn) = self.begin_session(&transaction, new).await?;
        transaction.commit().await?;
        self.withdrawals.tell(withdrawn);
        tracing::info!(person.id = person.id, session.id = cookie.id(), "{} signed in by a link", person.id);
        Ok(cookie)
    }

    /// Uses an invitation: for who is signed in, and otherwise for a new person, who then is. Answers the cookie of a
    /// session that began with it.
    pub(crate) async fn sign_in_by_invitation(
        &self,
        presented: &str,
        arrival: Arrival,
    ) -> Result<Option<Secret>, RegistryError> {
        if let Some(signed_in) = arrival.signed_in {
            self.accept_invitation(&signed_in, presented).await?;
            return Ok(None);
        }
        self.links_are_on()?;
        let invitation = self.invitation_of(presented).await?;
        let transaction = begin_write(&self.db).await?;
        let known = persons::Known { email: invitation.email.clone(), ..persons::Known::default() };
        let person = persons::insert(&transaction, known).await?;
        let new = NewSession {
            person: &person,
            by: SignedInBy::Invitation,
            tenant_id: Some(invitation.tenant_id.clone()),
            is_confined: false,
            client: arrival.client,
            instead_of: None,
        };
        let (cookie, withdrawn) = self.begin_session(&transaction, new).await?;
        self.accept_in(&transaction, &invitation, &person, (Proof::Link, cookie.id())).await?;
        transaction.commit().await?;
        self.withdrawals.tell(withdrawn);
        tracing::info!(person.id = person.id, invitation.id = invitation.id, "{} came in by an invitation", person.id);
        Ok(Some(cookie))
    }

    /// Makes who is signed in a member as the invitation says; the session then acts for that tenant.
    pub(crate) async fn accept_invitation(&self, signed_in: &SignedIn, presented: &str) -> Result<(), RegistryError> {
        if signed_in.session.is_confined {
            return Err(RegistryError::SessionConfined);
        }
        let invitation = self.invitation_of(presented).await?;
        let (person, session) = (&signed_in.person, &signed_in.session);
        let transaction = begin_write_of(&self.db, &invitation.tenant()).await?;
        let proof = if signed_in.is_by_provider() { Proof::Provider } else { Proof::Link };
        self.accept_in(&transaction, &invitation, person, (proof, &session.id)).await?;
        if !sessions::choose(&transaction, &session.id, &invitation.tenant()).await? {
            return Err(RegistryError::SessionOver);
        }
        transaction.commit().await?;
        tracing::info!(person.id = person.id, invitation.id = invitation.id, "{} used an invitation", person.id);
        Ok(())
    }

    /// Whether a link alone signs in.
    pub(crate) fn links_sign_in(&self) -> bool {
        self.config.sign_in.links
    }

    /// Providers of identities: name, and what people read.
    pub(crate) fn providers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.config.sign_in.providers.iter().map(|(name, provider)| (name.as_str(), provider.title(name)))
    }

    /// What a tenant is called.
    pub(crate) async fn name_of_tenant(&self, tenant: &TenantId) -> Result<String, RegistryError> {
        Ok(tenants::of_id(&self.db, tenant).await?.ok_or(RegistryError::LinkUnknown)?.name)
    }

    fn links_are_on(&self) -> Result<(), RegistryError> {
        if self.links_sign_in() { Ok(()) } else { Err(RegistryError::LinksOff) }
    }
}

/// Why no link can be made on the host.
#[derive(Debug, thiserror::Error)]
pub enum HostLinkError {
    /// There is no database to work on.
    #[error(transparent)]
    Offline(#[from] OfflineError),
    /// The database cannot be used.
    #[error("the registry's database cannot be used")]
    Database(#[from] DbErr),
    /// Nobody has that id or address.
    #[error("there is no person `{0}`: give an id as `souk members list` shows it, or an e-mail address")]
    Unknown(String),
    /// Several persons have the address.
    #[error("several persons have the address `{address}` ({}); give the id of one", .ids.join(", "))]
    Several {
        /// As given.
        address: String,
        /// Theirs.
        ids: Vec<String>,
    },
    /// The settings let no link sign in.
    #[error("sign_in.links is false: people sign in with a provider alone")]
    Off,
}

/// Makes a link that signs a person in, in the installation that `config` describes, whether or not a server runs there.
/// The person is named by id or address.
///
/// # Errors
/// [`HostLinkError`], and then no link was made.
pub async fn sign_in_link_on_host(
    config: &RegistryConfig,
    public_url: &PublicUrl,
    person: &str,
) -> Result<String, HostLinkError> {
    if !config.sign_in.links {
        return Err(HostLinkError::Off);
    }
    let db = open_database(config).await?;
    let transaction = begin_write(&db).await?;
    let found = person_named(&transaction, person).await?;
    let (row, secret) = insert_link(&transaction, &found.id, None, MadeBy::default(), config.sign_in.link).await?;
    let details = json!({ "link": row.id });
    let act = Act { tenant_id: INSTALLATION, action: "sign_in_link.created", subject: &found.id, details };
    append(&transaction, Actor::Host, act).await?;
    transaction.commit().await?;
    tracing::warn!(person.id = found.id, "Made a link on the host that signs {} in", found.id);
    Ok(address_of(public_url, &secret))
}

async fn person_named(connection: &impl ConnectionTrait, named: &str) -> Result<PersonRow, HostLinkError> {
    if let Some(person) = persons::get(connection, named).await? {
        return Ok(person);
    }
    let mut found = persons::with_email(connection, &named.to_ascii_lowercase(), 10).await?;
    match found.len() {
        0 => Err(HostLinkError::Unknown(named.to_owned())),
        1 => Ok(found.remove(0)),
        _ => {
            let ids = found.into_iter().map(|person| person.id).collect();
            Err(HostLinkError::Several { address: named.to_owned(), ids })
        }
    }
}

/// Who made a link; nobody: the host.
#[derive(Default)]
struct MadeBy {
    /// The key or session.
    key: Option<String>,
    person: Option<String>,
}

/// Writes a link in the place of the person's others of the same tenant, or of none.
async fn insert_link(
    connection: &impl ConnectionTrait,
    person_id: &str,
    confined_to: Option<String>,
    made_by: MadeBy,
    lives: Duration,
) -> Result<(LinkRow, Secret), DbErr> {
    let (secret, now_ms) = (Secret::generate(PREFIX), now_ms());
    sign_in_links::delete_like(connection, person_id, confined_to.as_deref()).await?;
    let row = LinkRow {
        id: secret.id().to_owned(),
        secret_hash: secret.hash(),
        person_id: person_id.to_owned(),
        tenant_id: confined_to,
        made_by: made_by.key,
        made_by_person: made_by.person,
        created_at_ms: now_ms,
        expires_at_ms: ms_in(lives),
    };
    Ok((sign_in_links::insert(connection, row).await?, secret))
}

fn address_of(public_url: &PublicUrl, secret: &Secret) -> String {
    public_url.at(&format!("/sign-in/link/{}", secret.expose()))
}
