//! How `souk login` gets a key of a person's: a browser that is signed in lets it, and gives it a code by way of a port of
//! the loopback address (RFC 8252). The code is good for a minute, once, and for the program alone that made up what
//! `challenge` is the hash of (PKCE).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use souk_protocol::{PersonId, TenantId};
use subtle::ConstantTimeEq as _;

use crate::Registry;
use crate::audit::Actor;
use crate::auth::ApiKey;
use crate::db::{
    CodeRow, KeyRow, TenantRow, begin_write, login_codes, members, ms_in, now_ms, persons, sessions, tenants,
};
use crate::error::RegistryError;
use crate::keys::{NewKey, Policy};
use crate::people::{Role, Secret};
use crate::sessions::SignedIn;

/// What the id of a code begins with.
const PREFIX: &str = "cod";
/// How long a code is good: the browser brings it at once.
const GOOD_FOR: Duration = Duration::from_secs(60);
/// SHA-256 in base64url.
const CHALLENGE_CHARS: usize = 43;
const MAX_STATE_CHARS: usize = 128;
const MAX_NAME_CHARS: usize = 64;
/// As RFC 7636 has it.
const MAX_VERIFIER_CHARS: usize = 128;

/// What a program asks for, checked.
pub(crate) struct CodeRequest {
    port: u16,
    challenge: String,
    name: String,
}

/// A key for a program, with the tenant that it is for.
pub(crate) struct GrantedKey {
    pub(crate) row: KeyRow,
    pub(crate) secret: ApiKey,
    pub(crate) tenant: TenantRow,
}

impl CodeRequest {
    /// Checks what the address says, which anybody may have written.
    pub(crate) fn parse(port: u16, state: &str, challenge: &str, name: &str) -> Result<Self, RegistryError> {
        let is_coded = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        let wrong = |what: &str| {
            Err(RegistryError::bad_request("invalid_query", format!("`{what}` is not as `souk login` writes it")))
        };
        let num_chars = name.chars().count();
        if port == 0 {
            wrong("port")
        } else if !(1..=MAX_STATE_CHARS).contains(&state.len()) || !is_coded(state) {
            wrong("state")
        } else if challenge.len() != CHALLENGE_CHARS || !is_coded(challenge) {
            wrong("challenge")
        } else if !(1..=MAX_NAME_CHARS).contains(&num_chars) || name.chars().any(char::is_control) {
            wrong("name")
        } else {
            Ok(Self { port, challenge: challenge.to_owned(), name: name.to_owned() })
        }
    }

    /// Where the program waits: on the person's machine, wherever the request came from.
    pub(crate) fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Registry {
    /// Lets a program have a key of the person who is signed in.
    pub(crate) async fn make_login_code(
        &self,
        signed_in: &SignedIn,
        request: &CodeRequest,
    ) -> Result<String, RegistryError> {
        let (tenant, _) = signed_in.tenant.as_ref().ok_or(RegistryError::NoTenant)?;
        let secret = Secret::generate(PREFIX);
        let row = CodeRow {
            id: secret.id().to_owned(),
            secret_hash: secret.hash(),
            session_id: signed_in.session.id.clone(),
            tenant_id: tenant.id.clone(),
            challenge: request.challenge.clone(),
            name: request.name.clone(),
            expires_at_ms: ms_in(GOOD_FOR),
        };
        login_codes::insert(&self.db, row).await?;
        Ok(secret.expose())
    }

    /// Exchanges a code for a personal key. Whatever comes of it, the code is used up. The session that it came from has to
    /// live, and its person still be a member.
    pub(crate) async fn exchange_code(&self, code: &str, verifier: &str) -> Result<GrantedKey, RegistryError> {
        let secret = Secret::parse(PREFIX, code).ok_or(RegistryError::LinkUnknown)?;
        let found = login_codes::get(&self.db, secret.id()).await?.filter(|row| secret.is(&row.secret_hash));
        let row = found.ok_or(RegistryError::LinkUnknown)?;
        if !login_codes::take(&self.db, &row.id).await? || row.expires_at_ms <= now_ms() {
            return Err(RegistryError::LinkUnknown);
        }
        let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
        if verifier.len() > MAX_VERIFIER_CHARS || !bool::from(hash.as_bytes().ct_eq(row.challenge.as_bytes())) {
            return Err(RegistryError::LinkUnknown);
        }
        let transaction = begin_write(&self.db).await?;
        let session = sessions::get(&transaction, &row.session_id).await?;
        let session = session
            .filter(|session| !session.is_over(now_ms(), self.config.sign_in.idle_ms()))
            .ok_or(RegistryError::LinkUnknown)?;
        let person = persons::get(&transaction, &session.person_id).await?.ok_or(RegistryError::LinkUnknown)?;
        let tenant_id = TenantId::from_stored(&row.tenant_id);
        let member = members::get(&transaction, &tenant_id, &person.id).await?.ok_or(RegistryError::LinkUnknown)?;
        let tenant = tenants::of_id(&transaction, &tenant_id).await?.ok_or(RegistryError::LinkUnknown)?;
        let policy = Policy::of(&transaction, &tenant_id).await?;
        let scopes = policy.within(&Role::from_column(&member.role).scopes())?;
        policy.check(&scopes, true)?;
        let latest_ms = ms_in(self.config.sign_in.key_lives());
        let expires_at_ms = policy.expiry(&scopes, None, None, Some(latest_ms))?;
        let new = NewKey {
            tenant_id: tenant.id.clone(),
            person: Some(PersonId::from_stored(&person.id)),
            name: row.name,
            scopes,
            models: None,
            expires_at_ms,
            made_by: Some(session.id.clone()),
            team: None,
        };
        let actor = Actor::Person { id: person.id.clone(), key: session.id };
        let (key, secret) = self.issue_key(&transaction, new, actor).await?;
        transaction.commit().await?;
        tracing::info!(key.id = key.id, person.id = person.id, "{} signed in a terminal", person.id);
        Ok(GrantedKey { row: key, secret, tenant })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_no_program_of_ours_asks_for_is_refused_by_name() {
        let challenge = "c".repeat(43);
        assert_eq!(CodeRequest::parse(4000, "s", &challenge, "my laptop").unwrap().origin(), "http://127.0.0.1:4000");
        for (port, state, challenge, name, told) in [
            (0, "s", challenge.as_str(), "n", "`port`"),
            (1, "", &challenge, "n", "`state`"),
            (1, "s&code=x", &challenge, "n", "`state`"),
            (1, "s", "short", "n", "`challenge`"),
            (1, "s", &challenge, "", "`name`"),
            (1, "s", &challenge, "a\nb", "`name`"),
        ] {
            let error = CodeRequest::parse(port, state, challenge, name).err().unwrap().to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_asked_for_the_code_goes_to_the_persons_own_machine(
            port in any::<u16>(), state in "\\PC{0,140}|[a-z]{1,9}", challenge in "[A-Za-z0-9_-]{42,44}", name in "\\PC{0,70}",
        ) {
            if let Ok(request) = CodeRequest::parse(port, &state, &challenge, &name) {
                prop_assert!(request.origin().starts_with("http://127.0.0.1:"));
                prop_assert!(!state.contains(['&', '=', '#', '/', '\n']));
            }
        }
    }
}
