//! What a caller presented, looked at once more in the transaction of what is done with it. Nobody ends it before the
//! transaction does: what is revoked, over or lowered meanwhile leaves nothing behind.

use sea_orm::DatabaseTransaction;
use souk_protocol::{AllowedModels, Principal, Scopes};

use crate::Registry;
use crate::auth::{AuthError, check_usable, effective, models_from_column, scopes_of};
use crate::db::{api_keys, now_ms, sessions};
use crate::error::RegistryError;
use crate::rights::{Action, require};

/// What was presented, and so the bounds of what is made with it.
pub(crate) struct Authority {
    /// Of a key or a session.
    pub(crate) id: String,
    /// What it may do at this moment.
    pub(crate) scopes: Scopes,
    pub(crate) models: Option<AllowedModels>,
    /// When it is over; `None` for a session: a key of a person's outlives the session that it was made with, and not the
    /// membership.
    pub(crate) expires_at_ms: Option<i64>,
}

impl Registry {
    /// What the caller presented.
    pub(crate) async fn authority(
        &self,
        transaction: &DatabaseTransaction,
        principal: &Principal,
    ) -> Result<Authority, RegistryError> {
        let id = principal.key.to_string();
        if let Some(key) = api_keys::lock(transaction, &id).await? {
            check_usable(&key)?;
            let scopes = effective(transaction, &key).await?.ok_or(AuthError::Revoked)?;
            let models = key.models.as_deref().map(models_from_column);
            return Ok(Authority { id, scopes, models, expires_at_ms: key.expires_at_ms });
        }
        let person = principal.person.as_ref().ok_or(AuthError::Invalid)?;
        let session = sessions::get(transaction, &id).await?.ok_or(AuthError::Invalid)?;
        if session.is_over(now_ms(), self.config.sign_in.idle_ms()) {
            return Err(RegistryError::SessionOver);
        }
        let scopes = scopes_of(transaction, &principal.tenant, person).await?.ok_or(RegistryError::SessionOver)?;
        Ok(Authority { id, scopes, models: None, expires_at_ms: None })
    }

    /// Ends a call that the caller may not make any more; answers the caller with what it may do now.
    pub(crate) async fn require_still(
        &self,
        transaction: &DatabaseTransaction,
        principal: &Principal,
        action: Action,
    ) -> Result<Principal, RegistryError> {
        let now = self.authority(transaction, principal).await?.of(principal);
        require(&now, action)?;
        Ok(now)
    }
}

impl Authority {
    /// The caller with what it may do at this moment.
    pub(crate) fn of(&self, principal: &Principal) -> Principal {
        Principal { scopes: self.scopes.clone(), ..principal.clone() }
    }
}
