//! From the text of an API key to a [`Principal`].
//!
//! The checksum is looked at first, then a short cache, then the database. The cache is keyed by the hash of the whole
//! key, never by its public id alone: otherwise a forged secret with a known id would pass.

mod key;
mod pepper;
mod recover;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::future::Cache;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait, DatabaseConnection, DbErr, EntityTrait as _,
    QueryFilter as _, Set,
};
use souk_protocol::{KeyId, Principal, Scope, Scopes, TenantId};
use subtle::ConstantTimeEq as _;

use crate::db::entities::{api_key, tenant};
use crate::db::now_ms;

pub use key::{ApiKey, MalformedKey};
pub use pepper::PepperError;
pub(crate) use pepper::Peppers;
pub use recover::{RecoverError, recover_admin_key};

use pepper::KeyHash;

/// How long an answer of the database is believed. Revocation in this process does not wait for it; it bounds what a
/// revocation by another process takes to be seen.
const CACHE_TTL: Duration = Duration::from_secs(1);

/// Keys remembered at once; an entry is a few hundred bytes.
const CACHE_ENTRIES: u64 = 10_000;

/// `last_used_at` is written at most this often per key, so that reading does not turn into writing.
const LAST_USED_RESOLUTION_MS: i64 = 60_000;

/// Why a caller is not known.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// Nothing was presented.
    #[error("this route needs an API key: send `Authorization: Bearer souk_…`")]
    Missing,
    /// Malformed, unknown, or with a wrong secret: the three are not told apart.
    #[error("the API key is not valid")]
    Invalid,
    /// The key was revoked.
    #[error("the API key was revoked")]
    Revoked,
    /// The key's time is over.
    #[error("the API key has expired")]
    Expired,
    /// The database could not answer. The cause is for the log, not for the caller.
    #[error("the registry cannot answer now")]
    Unavailable(#[source] Arc<DbErr>),
}

/// Verifies keys.
pub(crate) struct Authenticator {
    /// Where keys are stored.
    db: DatabaseConnection,
    /// The server's secrets in the hashes of keys.
    peppers: Peppers,
    /// What the database said lately, by the hash of the whole key.
    cache: Cache<KeyHash, KnownKey>,
    /// Counts revocations. An entry that was read under another count is not believed, so that a revocation is
    /// effective at once, also against a read that overlaps it.
    revocations: AtomicU64,
}

#[derive(Clone)]
struct KnownKey {
    principal: Arc<Principal>,
    expires_at_ms: Option<i64>,
    revocations_when_read: u64,
}

impl Authenticator {
    pub(crate) fn new(db: DatabaseConnection, peppers: Peppers) -> Self {
        let cache = Cache::builder().max_capacity(CACHE_ENTRIES).time_to_live(CACHE_TTL).build();
        Self { db, peppers, cache, revocations: AtomicU64::new(0) }
    }

    /// The version and the hash under which a new key is stored.
    pub(crate) fn hash_new(&self, key: &ApiKey) -> (i32, KeyHash) {
        let version = self.peppers.newest_version();
        (version, self.peppers.hash(version, key).expect("the newest pepper exists"))
    }

    /// To be called after a revocation was committed.
    pub(crate) fn forget_all(&self) {
        self.revocations.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) async fn authenticate(&self, presented: &str) -> Result<Principal, AuthError> {
        let key = ApiKey::parse(presented).map_err(|MalformedKey| AuthError::Invalid)?;
        let (_, cache_key) = self.hash_new(&key);
        let revocations = self.revocations.load(Ordering::SeqCst);
        let cached = self.cache.get(&cache_key).await;
        let known = match cached.filter(|known| known.revocations_when_read == revocations) {
            Some(known) => known,
            None => {
                let known = self.read(&key, revocations).await?;
                self.cache.insert(cache_key, known.clone()).await;
                known
            }
        };
        if known.expires_at_ms.is_some_and(|expires_at_ms| expires_at_ms <= now_ms()) {
            return Err(AuthError::Expired);
        }
        Ok(Principal::clone(&known.principal))
    }

    async fn read(&self, key: &ApiKey, revocations_when_read: u64) -> Result<KnownKey, AuthError> {
        let unavailable = |error| AuthError::Unavailable(Arc::new(error));
        let found = api_key::Entity::find_by_id(key.id().as_str()).one(&self.db).await.map_err(unavailable)?;
        let row = found.ok_or(AuthError::Invalid)?;
        let hash = self.peppers.hash(row.pepper_version, key).ok_or(AuthError::Invalid)?;
        if !bool::from(hash.as_slice().ct_eq(&row.secret_hash)) {
            return Err(AuthError::Invalid);
        }
        if row.revoked_at_ms.is_some() {
            return Err(AuthError::Revoked);
        }
        let owner = tenant::Entity::find_by_id(&row.tenant_id).one(&self.db).await.map_err(unavailable)?;
        let owner = owner.ok_or(AuthError::Invalid)?;
        self.note_use(&row);
        let principal = Principal {
            tenant: TenantId::from_stored(row.tenant_id),
            tenant_name: owner.name,
            key: KeyId::from_stored(row.id),
            scopes: scopes_from_column(&row.scopes),
        };
        Ok(KnownKey { principal: Arc::new(principal), expires_at_ms: row.expires_at_ms, revocations_when_read })
    }

    /// Books the use of a key without making the caller wait. Losing it costs a list entry its freshness, no more.
    fn note_use(&self, row: &api_key::Model) {
        let now_ms = now_ms();
        if row.last_used_at_ms.is_some_and(|last_ms| now_ms - last_ms < LAST_USED_RESOLUTION_MS) {
            return;
        }
        let (db, id) = (self.db.clone(), row.id.clone());
        tokio::spawn(async move {
            let update = api_key::Entity::update_many()
                .col_expr(api_key::Column::LastUsedAtMs, now_ms.into())
                .filter(api_key::Column::Id.eq(&id));
            if let Err(error) = update.exec(&db).await {
                tracing::warn!(key.id = id, %error, "The last use of a key could not be noted");
            }
        });
    }
}

/// Scopes as the `scopes` column holds them: names with spaces between.
pub(crate) fn scopes_to_column(scopes: &Scopes) -> String {
    scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" ")
}

/// A name that this program does not know grants nothing: a newer program may have written it.
pub(crate) fn scopes_from_column(text: &str) -> Scopes {
    text.split_whitespace().filter_map(|name| name.parse::<Scope>().ok()).collect()
}

/// What a new key is made from.
pub(crate) struct NewKey {
    pub(crate) tenant_id: String,
    pub(crate) name: String,
    pub(crate) scopes: Scopes,
    pub(crate) expires_at_ms: Option<i64>,
}

/// Makes a key and stores its hash. The key itself is nowhere but in the answer.
pub(crate) async fn insert_key(
    connection: &impl ConnectionTrait,
    authenticator: &Authenticator,
    new: NewKey,
) -> Result<(api_key::Model, ApiKey), DbErr> {
    let key = ApiKey::generate();
    let (pepper_version, secret_hash) = authenticator.hash_new(&key);
    let row = api_key::ActiveModel {
        id: Set(key.id().as_str().to_owned()),
        tenant_id: Set(new.tenant_id),
        name: Set(new.name),
        scopes: Set(scopes_to_column(&new.scopes)),
        secret_hash: Set(secret_hash.to_vec()),
        pepper_version: Set(pepper_version),
        last_four: Set(key.last_four().to_owned()),
        created_at_ms: Set(now_ms()),
        expires_at_ms: Set(new.expires_at_ms),
        revoked_at_ms: Set(None),
        last_used_at_ms: Set(None),
    };
    Ok((row.insert(connection).await?, key))
}
