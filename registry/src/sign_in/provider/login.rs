//! Beginning a sign-in with a provider, and ending it with whoever comes back.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sea_orm::DatabaseTransaction;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::id_token::Identity;
use crate::Registry;
use crate::audit::{Act, Actor, INSTALLATION, append};
use crate::db::persons::Known;
use crate::db::{
    InvitationRow, LoginRow, PersonRow, begin_write, identities, invitations, logins, members, ms_in, now_ms, persons,
    sessions,
};
use crate::error::RegistryError;
use crate::people::{Proof, Secret};
use crate::sessions::{NewSession, SignedInBy};
use crate::sign_in::{Arrival, ReturnTo};

/// What the id of a sign-in begins with.
const PREFIX: &str = "lgn";
/// How long a person may take at the provider.
pub(crate) const LOGIN_TIME: Duration = Duration::from_secs(600);
/// What is asked for.
const SCOPES: &str = "openid email profile";

/// What somebody who comes back from a provider brings.
#[derive(Clone, Debug, Default)]
pub(crate) struct ComingBack {
    pub(crate) code: Option<String>,
    pub(crate) state: Option<String>,
    /// Why the provider did not let them in.
    pub(crate) error: Option<String>,
    /// Who sends them back (RFC 9207).
    pub(crate) iss: Option<String>,
}

/// What a sign-in is begun for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Purpose {
    pub(crate) return_to: Option<ReturnTo>,
    /// The end of an invitation's link.
    pub(crate) invitation: Option<String>,
    /// Whether the person who is signed in is to be known by the provider, too.
    pub(crate) connects: bool,
}

impl Registry {
    /// Begins a sign-in; answers the provider's address to go to, and the cookie to come back with.
    pub(crate) async fn begin_login(
        &self,
        name: &str,
        purpose: Purpose,
        arrival: Arrival,
    ) -> Result<(String, Secret), RegistryError> {
        let provider = self.providers.get(name)?;
        let redirect_uri = self.redirect_uri(name)?;
        let invitation = match &purpose.invitation {
            Some(presented) => Some(self.invitation_of(presented).await?),
            None => None,
        };
        if purpose.connects {
            let signed_in = arrival.signed_in.as_ref().ok_or(RegistryError::SessionNeeded)?;
            if signed_in.session.is_confined {
                return Err(RegistryError::SessionConfined);
            }
        }
        let metadata = provider.metadata().await?;
        let secret = Secret::generate(PREFIX);
        let row = LoginRow {
            id: secret.id().to_owned(),
            secret_hash: secret.hash(),
            provider: name.to_owned(),
            return_to: purpose.return_to.map(|path| path.as_str().to_owned()),
            invitation_id: invitation.map(|row| row.id),
            session_id: arrival.signed_in.map(|signed_in| signed_in.session.id),
            connects: purpose.connects,
            expires_at_ms: ms_in(LOGIN_TIME),
        };
        logins::insert(&self.db, row).await?;
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier(&secret)));
        let (state, nonce) = (secret.derive("state"), secret.derive("nonce"));
        let query = [
            ("response_type", "code"),
            ("client_id", provider.client_id()),
            ("redirect_uri", &redirect_uri),
            ("scope", SCOPES),
            ("state", &state),
            ("nonce", &nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        let query = serde_urlencoded::to_string(query).expect("pairs of texts");
        let endpoint = &metadata.authorization_endpoint;
        let sign = if endpoint.contains('?') { '&' } else { '?' };
        Ok((format!("{endpoint}{sign}{query}"), secret))
    }

    /// Ends a sign-in: who comes back with what belongs to the cookie is who the provider says. Answers the session's
    /// cookie, and where the person wanted to go on.
    pub(crate) async fn finish_login(
        &self,
        name: &str,
        back: ComingBack,
        cookie: Option<&str>,
        client: Option<String>,
    ) -> Result<(Secret, Option<ReturnTo>), RegistryError> {
        let provider = self.providers.get(name)?;
        let unknown = || RegistryError::provider("it was not begun in this browser, or is over");
        let secret = cookie.and_then(|cookie| Secret::parse(PREFIX, cookie)).ok_or_else(unknown)?;
        let found = logins::get(&self.db, secret.id()).await?.filter(|row| secret.is(&row.secret_hash));
        let login = found.filter(|row| row.provider == name && row.expires_at_ms > now_ms()).ok_or_else(unknown)?;
        if !back.state.as_deref().is_some_and(|state| secret.derives("state", state)) {
            return Err(RegistryError::provider("what came back belongs to another sign-in"));
        }
        // Whatever comes of it: once.
        if !logins::take(&self.db, &login.id).await? {
            return Err(unknown());
        }
        let metadata = provider.metadata().await?;
        if back.iss.as_deref().is_some_and(|iss| iss != provider.issuer())
            || (back.iss.is_none() && metadata.authorization_response_iss_parameter_supported)
        {
            return Err(RegistryError::provider("another provider sent it back"));
        }
        if let Some(error) = back.error {
            let word = error.chars().filter(|character| character.is_ascii_alphanumeric() || *character == '_');
            return Err(RegistryError::provider(format!("it answered `{}`", word.take(40).collect::<String>())));
        }
        let code = back.code.ok_or_else(|| RegistryError::provider("it sent back no code"))?;
        let redirect_uri = self.redirect_uri(name)?;
        let nonce = secret.derive("nonce");
        let identity = provider.identity(&code, &verifier(&secret), &redirect_uri, &nonce).await?;
        let cookie = self.sign_in_as(provider.issuer(), identity, &login, client).await?;
        Ok((cookie, login.return_to.as_deref().and_then(ReturnTo::parse)))
    }

    /// Begins a session of the person that the provider means, if that may come in.
    async fn sign_in_as(
        &self,
        issuer: &str,
        identity: Identity,
        login: &LoginRow,
        client: Option<String>,
    ) -> Result<Secret, RegistryError> {
        let transaction = begin_write(&self.db).await?;
        let invitation = match &login.invitation_id {
            Some(id) => invitations::get(&transaction, id).await?,
            None => None,
        };
        let person = self.person_for(&transaction, issuer, identity, login, invitation.as_ref()).await?;
        let mut accepted = None;
        if let Some(invitation) = invitation
            && members::get(&transaction, &invitation.tenant(), &person.id).await?.is_none()
        {
            accepted = Some(invitation);
        }
        let new = NewSession {
            person: &person,
            by: SignedInBy::Provider,
            tenant_id: accepted.as_ref().map(|invitation| invitation.tenant_id.clone()),
            is_confined: false,
            client,
            instead_of: login.session_id.as_deref(),
        };
        let (cookie, withdrawn) = self.begin_session(&transaction, new).await?;
        if let Some(invitation) = accepted {
            self.accept_in(&transaction, &invitation, &person, (Proof::Provider, cookie.id())).await?;
        }
        transaction.commit().await?;
        self.withdrawals.tell(withdrawn);
        let (person, session) = (&person.id, cookie.id());
        tracing::info!(
            person.id = person,
            session.id = session,
            provider = login.provider,
            "{person} signed in with {}",
            login.provider
        );
        Ok(cookie)
    }

    /// The person that the provider means, with what it says of them now: one that is known, the one who connects, or a new
    /// one who was invited or may come in by themselves.
    async fn person_for(
        &self,
        transaction: &DatabaseTransaction,
        issuer: &str,
        identity: Identity,
        login: &LoginRow,
        invitation: Option<&InvitationRow>,
    ) -> Result<PersonRow, RegistryError> {
        let known = identities::person_of(transaction, issuer, &identity.subject).await?;
        let connecting = match &login.session_id {
            Some(id) if login.connects => {
                let session = sessions::get(transaction, id).await?;
                let idle_ms = self.config.sign_in.idle_ms();
                let session = session.filter(|session| !session.is_over(now_ms(), idle_ms));
                Some(session.ok_or(RegistryError::SessionOver)?.person_id)
            }
            _ => None,
        };
        let person_id = match (known, connecting) {
            (Some(known), Some(connecting)) if known != connecting => {
                return Err(RegistryError::provider("the account is somebody else's here"));
            }
            (Some(known), _) => known,
            (None, Some(connecting)) => {
                identities::insert(transaction, issuer, &identity.subject, &connecting).await?;
                let actor = Actor::Person { id: connecting.clone(), key: login.session_id.clone().unwrap_or_default() };
                let details = json!({ "provider": login.provider });
                let act = Act { tenant_id: INSTALLATION, action: "person.connected", subject: &connecting, details };
                append(transaction, actor, act).await?;
                connecting
            }
            (None, None) if invitation.is_some() || self.config.settings.self_service => {
                let person = persons::insert(transaction, identity.known).await?;
                identities::insert(transaction, issuer, &identity.subject, &person.id).await?;
                return Ok(person);
            }
            (None, None) => return Err(RegistryError::NotInvited),
        };
        let person = persons::get(transaction, &person_id).await?.ok_or(RegistryError::NotInvited)?;
        let said = identity.known;
        let keeps_email = said.email.is_none();
        let now = Known {
            name: said.name.or_else(|| person.name.clone()),
            email: said.email.or_else(|| person.email.clone()),
            // Of an address that it says nothing of any more nobody vouches.
            email_is_verified: said.email_is_verified && !keeps_email,
        };
        persons::update(transaction, &person_id, now.clone()).await?;
        let Known { name, email, email_is_verified } = now;
        Ok(PersonRow { name, email, email_is_verified, ..person })
    }

    fn redirect_uri(&self, name: &str) -> Result<String, RegistryError> {
        Ok(self.public_url()?.at(&format!("/sign-in/provider/{name}/callback")))
    }
}

/// What only who began the sign-in can send along with the code.
fn verifier(secret: &Secret) -> String {
    secret.derive("verifier")
}
