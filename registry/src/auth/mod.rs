//! From the text of an API key to a [`Principal`].
//!
//! The checksum is looked at first, then the database, at every request: a key that was revoked through one registry is
//! refused by every other from the next request on.

mod columns;
mod key;
mod noting;
mod pepper;
mod role;

use std::sync::Arc;

use sea_orm::{DatabaseConnection, DbErr};
use souk_protocol::{KeyId, PersonId, Principal, TenantId};
use subtle::ConstantTimeEq as _;

use crate::db::{KeyRow, ServiceRow, api_keys, now_ms};

pub(crate) use columns::{models_from_column, models_to_column, scopes_from_column, scopes_to_column};
pub use key::{ApiKey, MalformedKey};
pub(crate) use noting::Noting;
pub(crate) use pepper::Peppers;
pub(crate) use role::{effective, scopes_of};

use pepper::KeyHash;

/// `last_used_at` is written at most this often per key, so that reading does not turn into writing.
const LAST_USED_RESOLUTION_MS: i64 = 60_000;

/// Why a caller is not known.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuthError {
    /// Nothing was presented.
    #[error("this route needs an API key: send `Authorization: Bearer souk_…`")]
    Missing,
    /// Malformed, unknown, or with a wrong secret: the three are not told apart.
    #[error("the API key is not valid")]
    Invalid,
    /// The key was revoked, or the one that the token was made with.
    #[error("the API key was revoked")]
    Revoked,
    /// The time of the key or the token is over.
    #[error("the API key or token has expired")]
    Expired,
    /// Whether a token's key was revoked is not known: other registries' revocations cannot be looked for.
    #[error("the registry cannot tell now whether the token still counts")]
    RevocationsUnknown,
    /// The database could not answer. The cause is for the log, not for the caller.
    #[error("the registry cannot answer now")]
    Unavailable(#[source] Arc<DbErr>),
}

impl AuthError {
    pub(crate) fn unavailable(error: DbErr) -> Self {
        Self::Unavailable(Arc::new(error))
    }
}

/// Verifies keys.
pub(crate) struct Authenticator {
    /// Where keys are stored.
    db: DatabaseConnection,
    /// The server's secrets in the hashes of keys.
    peppers: Peppers,
    pub(crate) noting: Noting,
}

impl Authenticator {
    pub(crate) fn new(db: DatabaseConnection, peppers: Peppers) -> Self {
        Self { db, peppers, noting: Noting::default() }
    }

    /// The version and the hash under which a new key is stored.
    pub(crate) fn hash_new(&self, key: &ApiKey) -> (i32, KeyHash) {
        let version = self.peppers.newest_version();
        (version, self.peppers.hash(version, key).expect("the newest pepper exists"))
    }

    /// Whether `hash` is what is stored of this key, under that version of the pepper.
    pub(crate) fn is_hash_of(&self, key: &ApiKey, pepper_version: i32, hash: &[u8]) -> bool {
        self.peppers.hash(pepper_version, key).is_some_and(|right| bool::from(right.as_slice().ct_eq(hash)))
    }

    /// Who presents this key. One question to the database, and one more for what a person's role allows now.
    pub(crate) async fn authenticate(&self, presented: &str) -> Result<Principal, AuthError> {
        let key = ApiKey::parse(presented).map_err(|MalformedKey| AuthError::Invalid)?;
        let found = api_keys::with_tenant(&self.db, key.id().as_str()).await.map_err(AuthError::unavailable)?;
        let (row, tenant) = found.ok_or(AuthError::Invalid)?;
        if !self.is_key_of(Some(&row), &key) {
            return Err(AuthError::Invalid);
        }
        check_usable(&row)?;
        let scopes = effective(&self.db, &row).await.map_err(AuthError::unavailable)?.ok_or(AuthError::Revoked)?;
        self.note_use(&row);
        Ok(Principal {
            tenant: TenantId::from_stored(row.tenant_id),
            tenant_name: tenant.name,
            key: KeyId::from_stored(row.id),
            person: row.person_id.map(PersonId::from_stored),
            scopes,
            models: row.models.as_deref().map(models_from_column),
        })
    }

    /// Whether the key is that of the row, secret and all. It takes as long where there is none.
    pub(crate) fn is_key_of(&self, row: Option<&KeyRow>, key: &ApiKey) -> bool {
        self.is_one_with(row.map(|row| (row.pepper_version, row.secret_hash.as_slice())), key)
    }

    /// The same of a service's row.
    pub(crate) fn is_services(&self, row: Option<&ServiceRow>, key: &ApiKey) -> bool {
        self.is_one_with(row.map(|row| (row.pepper_version, row.secret_hash.as_slice())), key)
    }

    fn is_one_with(&self, stored: Option<(i32, &[u8])>, key: &ApiKey) -> bool {
        let (version, hash) = stored.unwrap_or_else(|| (self.peppers.newest_version(), &[0; 32]));
        self.is_hash_of(key, version, hash) && stored.is_some()
    }

    /// Books the use of a key.
    fn note_use(&self, row: &KeyRow) {
        let now_ms = now_ms();
        if row.last_used_at_ms.is_some_and(|last_ms| now_ms - last_ms < LAST_USED_RESOLUTION_MS) {
            return;
        }
        let (db, id) = (self.db.clone(), row.id.clone());
        self.noting.note(&row.id, async move { api_keys::note_use(&db, &id, now_ms).await });
    }
}

/// Refuses a key that was revoked or whose time is over.
pub(crate) fn check_usable(row: &KeyRow) -> Result<(), AuthError> {
    if row.revoked_at_ms.is_some() {
        return Err(AuthError::Revoked);
    }
    if row.expires_at_ms.is_some_and(|expires_at_ms| expires_at_ms <= now_ms()) {
        return Err(AuthError::Expired);
    }
    Ok(())
}
