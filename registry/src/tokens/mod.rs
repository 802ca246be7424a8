//! Tokens that a key or a session is exchanged for, and the keys that sign them.
//!
//! A token lives for at most 15 minutes and never longer than its key; it grants at most what the key does. Whoever has
//! the public keys ([`Registry::token_keys`]) can verify one without asking anybody. A revoked key's tokens end with it:
//! revocations are remembered for as long as a token may live ([`souk_http::revoked::RevokedKeys`]).
//!
//! Signing keys are rows, so all registries of a database sign and verify the same. The newest signs; one that is older
//! than `registry.signing_key_days` is followed by a new one at the next exchange, and stays published until no token
//! lives that it could have signed. The private halves are sealed ([`crate::seal`]); if the sealing key is lost, new
//! signing keys are made, and what was signed before is still verified.

mod signing;

use std::collections::BTreeSet;
use std::time::Duration;

use souk_http::token::{self, Claims, LIFETIME, ServiceClaims, is_token};
use souk_protocol::{Principal, Scope, Scopes, ServiceKind, wall_clock};
use uuid::Uuid;

use crate::Registry;
use crate::audit::Actor;
use crate::auth::{ApiKey, AuthError, check_usable, scopes_to_column};
use crate::db::api_keys;
use crate::error::{Finding, RegistryError};
use crate::rights::{Action, require};
use crate::sessions::SignedIn;

pub(crate) use signing::SigningKeys;
pub use signing::TokenKey;

/// A token as its caller gets it.
#[derive(Debug)]
pub(crate) struct NewToken {
    pub(crate) token: String,
    pub(crate) lives: Duration,
    pub(crate) scopes: Scopes,
}

/// A token as a service gets it.
#[derive(Debug)]
pub(crate) struct NewServiceToken {
    pub(crate) token: String,
    pub(crate) lives: Duration,
    /// Who issues tokens, as they say it: whom the service is to believe.
    pub(crate) issuer: String,
}

/// A service that calls.
#[derive(Clone, Debug)]
pub(crate) struct CallingService {
    /// Of its key.
    pub(crate) id: String,
    pub(crate) name: String,
    /// `None`: something that a newer registry knows.
    pub(crate) kind: Option<ServiceKind>,
}

impl Registry {
    /// Exchanges the key that was presented for a token with the same rights, or with those of `scopes` alone.
    pub(crate) async fn exchange(
        &self,
        principal: &Principal,
        presented: &str,
        scopes: Option<&[String]>,
    ) -> Result<NewToken, RegistryError> {
        require(principal, Action::ExchangeToken)?;
        if ApiKey::parse(presented).is_err() {
            return Err(RegistryError::TokenForToken);
        }
        let scopes = narrowed(principal, scopes)?;
        let key = api_keys::with_tenant(&self.db, principal.key.as_str()).await?;
        let (key, _) = key.ok_or(AuthError::Invalid)?;
        check_usable(&key)?;
        let now = wall_clock::since_epoch();
        let left = |until_ms: i64| Duration::from_millis(until_ms.try_into().unwrap_or(0)).saturating_sub(now);
        self.token_for(principal, scopes, key.expires_at_ms.map_or(LIFETIME, left)).await
    }

    /// Exchanges a session for a token with the rights of the role, or with those of `scopes` alone, in the tenant that
    /// the session acts for.
    pub(crate) async fn exchange_session(
        &self,
        signed_in: &SignedIn,
        scopes: Option<&[String]>,
    ) -> Result<NewToken, RegistryError> {
        let principal = signed_in.principal().ok_or(RegistryError::NoTenant)?;
        require(&principal, Action::ExchangeToken)?;
        let scopes = narrowed(&principal, scopes)?;
        self.token_for(&principal, scopes, self.session_left(&signed_in.session)).await
    }

    /// A token that lives no longer than what it is made with.
    async fn token_for(
        &self,
        principal: &Principal,
        scopes: Scopes,
        left: Duration,
    ) -> Result<NewToken, RegistryError> {
        let (now, lives) = (wall_clock::since_epoch(), left.min(LIFETIME));
        let claims = Claims {
            iss: self.signing_keys.issuer().to_owned(),
            aud: token::API.to_owned(),
            sub: principal.tenant.to_string(),
            exp: (now + lives).as_secs(),
            nbf: now.as_secs(),
            iat: now.as_secs(),
            jti: Uuid::new_v4().simple().to_string(),
            key: principal.key.to_string(),
            person: principal.person.as_ref().map(ToString::to_string),
            models: principal.models.clone(),
            tenant: principal.tenant_name.clone(),
            scope: scopes_to_column(&scopes),
        };
        Ok(NewToken { token: self.signing_keys.sign(&claims).await?, lives, scopes })
    }

    /// Exchanges a service's key for a token with which it calls other services.
    pub(crate) async fn exchange_for_service(&self, presented: &str) -> Result<NewServiceToken, RegistryError> {
        let service = self.service_with(presented).await?;
        let now = wall_clock::since_epoch();
        let issuer = self.signing_keys.issuer().to_owned();
        let claims = ServiceClaims {
            iss: issuer.clone(),
            aud: token::SERVICES.to_owned(),
            sub: service.id,
            exp: (now + LIFETIME).as_secs(),
            nbf: now.as_secs(),
            iat: now.as_secs(),
            jti: Uuid::new_v4().simple().to_string(),
            service: service.name,
            kind: Some(service.kind.unwrap_or_else(|| ServiceKind::Gateway.to_string())),
        };
        Ok(NewServiceToken { token: self.signing_keys.sign(&claims).await?, lives: LIFETIME, issuer })
    }

    /// Which service presents this token. Asks the database only for a signing key that this registry has not seen.
    pub(crate) async fn authenticate_service(&self, presented: &str) -> Result<CallingService, AuthError> {
        if !is_token(presented) {
            return Err(AuthError::Invalid);
        }
        let claims = self.signing_keys.verify_service(presented).await?;
        self.check_unrevoked(&claims.sub)?;
        let kind = claims.kind();
        Ok(CallingService { id: claims.sub, name: claims.service, kind })
    }

    /// The public keys that verify tokens, newest first.
    ///
    /// # Errors
    /// [`RegistryError`] from the database.
    pub async fn token_keys(&self) -> Result<Vec<TokenKey>, RegistryError> {
        Ok(self.signing_keys.published().await?)
    }

    /// Makes a new signing key, which signs from now on.
    pub(crate) async fn rotate_signing_key(&self, principal: &Principal) -> Result<TokenKey, RegistryError> {
        require(principal, Action::RotateSigningKey)?;
        let key = self.signing_keys.rotate(Actor::of(principal)).await?;
        let (kid, by) = (&key.kid, &principal.key);
        tracing::warn!(kid, by.key = %by, by.tenant = principal.tenant_name, "Key {by} rotated the signing key: {kid} signs now");
        Ok(key)
    }

    /// Whom a token stands for. Asks the database only for a signing key that this registry has not seen.
    pub(crate) async fn authenticate_token(&self, presented: &str) -> Result<Principal, AuthError> {
        let claims = self.signing_keys.verify(presented).await?;
        self.check_unrevoked(&claims.key)?;
        Ok(claims.principal())
    }

    /// Refuses a token whose key was revoked, or of whose key that is not known.
    fn check_unrevoked(&self, key: &str) -> Result<(), AuthError> {
        if !self.withdrawals.is_up_to_date() {
            return Err(AuthError::RevocationsUnknown);
        }
        if self.withdrawals.revoked_keys().has(key) { Err(AuthError::Revoked) } else { Ok(()) }
    }
}

/// The scopes of a token: all that the key has, or those that are asked for.
fn narrowed(principal: &Principal, asked: Option<&[String]>) -> Result<Scopes, RegistryError> {
    let Some(asked) = asked else { return Ok(principal.scopes.clone()) };
    let mut findings = Vec::new();
    let mut scopes = BTreeSet::new();
    for (index, name) in asked.iter().enumerate() {
        match name.parse::<Scope>() {
            Ok(scope) => _ = scopes.insert(scope),
            Err(error) => findings.push(Finding::field(format!("scopes[{index}]"), error.to_string())),
        }
    }
    if asked.is_empty() {
        findings
            .push(Finding::field("scopes", "at least one scope, or no such field for all of the key's; given none"));
    }
    RegistryError::unless_valid(findings)?;
    match scopes.iter().find(|scope| !principal.may(**scope)) {
        Some(missing) => Err(RegistryError::ScopeNotHeld(*missing)),
        None => Ok(scopes),
    }
}
