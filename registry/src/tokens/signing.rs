//! The keys that sign tokens: read from their table, made when there is none or the newest is old.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use sea_orm::{DatabaseConnection, DbErr};
use serde::Serialize;
use serde_json::json;
use souk_http::token::{self, Claims, FileClaims, LEEWAY, LIFETIME, ServiceClaims, TokenError, Verifier};
use souk_protocol::wall_clock;
use tokio::sync::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use crate::audit::{self, Act, Actor, INSTALLATION};
use crate::auth::AuthError;
use crate::db::begin_row_write;
use crate::db::signing_keys::{self, Model};
use crate::error::RegistryError;
use crate::seal::{Sealed, Seals};

/// Rows are read again for tokens with an unknown key at most this often, so that made-up names cost little. Who asks sooner
/// waits for the next read, since another registry may have made the key since the last.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Signs and verifies.
pub(crate) struct SigningKeys {
    db: DatabaseConnection,
    seals: Arc<Seals>,
    issuer: String,
    /// Age at which the newest is followed by another.
    rotate_after: Duration,
    /// What was read last. Locked for a look.
    known: RwLock<Arc<Known>>,
    /// Held while rows are read or made; when the last read began.
    reading: Mutex<Option<Instant>>,
}

/// What a registry knows of the table.
struct Known {
    rows: Vec<Model>,
    of_tenants: Verifier,
    of_services: Verifier,
    of_files: Verifier,
    /// Of the newest row whose seal can be opened.
    signing: Option<Signing>,
}

#[derive(Clone)]
struct Signing {
    kid: String,
    key: EncodingKey,
    created_at_ms: i64,
}

/// A key that verifies tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenKey {
    /// Its name in the head of tokens.
    pub kid: String,
    /// Its 32 bytes in base64url.
    pub x: String,
}

/// Why nothing can be signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SigningKeysError {
    /// The table cannot be read or written.
    #[error(transparent)]
    Database(#[from] DbErr),
    /// The library made no key or no signature.
    #[error("a token cannot be signed: {0}")]
    Signing(String),
}

impl SigningKeys {
    /// Reads the table and puts what is under an older seal under the newest. `issuer` is what tokens say of where they
    /// come from.
    pub(crate) async fn open(
        db: DatabaseConnection,
        seals: Arc<Seals>,
        issuer: String,
        rotate_after: Duration,
    ) -> Result<Self, DbErr> {
        let known = RwLock::new(Arc::new(Known::of(Vec::new(), &seals, &issuer)));
        let keys = Self { db, seals, issuer, rotate_after, known, reading: Mutex::new(None) };
        keys.reseal().await?;
        keys.read().await?;
        Ok(keys)
    }

    /// Who signs, as tokens say it.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Signs with the newest key, after making one where there is none or it is old.
    pub(crate) async fn sign(&self, claims: &impl Serialize) -> Result<String, SigningKeysError> {
        let signing = match self.known().signing.clone().filter(|signing| !self.is_old(signing)) {
            Some(signing) => signing,
            None => self.make_unless_another_did().await?,
        };
        let header = Header { kid: Some(signing.kid), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, claims, &signing.key)
            .map_err(|error| SigningKeysError::Signing(error.to_string()))
    }

    /// What a tenant's token says, if it is good.
    pub(crate) async fn verify(&self, presented: &str) -> Result<Claims, AuthError> {
        self.verified(|known| known.of_tenants.verify(presented)).await
    }

    /// What a service's token says, if it is good.
    pub(crate) async fn verify_service(&self, presented: &str) -> Result<ServiceClaims, AuthError> {
        self.verified(|known| known.of_services.verify_service(presented)).await
    }

    /// What a grant of files says, if it is good.
    pub(crate) async fn verify_files(&self, presented: &str) -> Result<FileClaims, AuthError> {
        self.verified(|known| known.of_files.verify_files(presented)).await
    }

    async fn verified<C>(&self, verify: impl Fn(&Known) -> Result<C, TokenError>) -> Result<C, AuthError> {
        let mut verified = verify(&self.known());
        if matches!(verified, Err(TokenError::UnknownKey)) {
            self.look_again().await.map_err(AuthError::unavailable)?;
            verified = verify(&self.known());
        }
        verified.map_err(|error| match error {
            TokenError::Expired => AuthError::Expired,
            TokenError::UnknownKey | TokenError::Invalid => AuthError::Invalid,
        })
    }

    /// The public halves, newest first.
    pub(crate) async fn published(&self) -> Result<Vec<TokenKey>, DbErr> {
        self.look_again().await?;
        Ok(self.known().rows.iter().map(TokenKey::from).collect())
    }

    /// Makes a key that signs from now on, for `actor`.
    pub(crate) async fn rotate(&self, actor: Actor) -> Result<TokenKey, SigningKeysError> {
        let mut read_at = self.reading.lock().await;
        let row = self.insert(actor).await?;
        self.read_rows(&mut read_at).await?;
        Ok(TokenKey::from(&row))
    }

    /// How long a row may be needed: it signs until it is old, and somewhat longer where nobody looks at its age, and
    /// what it signed lives on.
    pub(crate) const fn kept(rotate_after: Duration) -> Duration {
        rotate_after.saturating_add(LIFETIME).saturating_add(LEEWAY).saturating_add(Duration::from_secs(3600))
    }

    async fn make_unless_another_did(&self) -> Result<Signing, SigningKeysError> {
        let mut read_at = self.reading.lock().await;
        self.read_rows(&mut read_at).await?;
        if self.known().signing.as_ref().is_none_or(|signing| self.is_old(signing)) {
            // Two registries that do so at once make two, and either can be verified.
            let row = self.insert(Actor::System).await?;
            tracing::info!(kid = row.kid, "Made a signing key");
            self.read_rows(&mut read_at).await?;
        }
        let nothing = || SigningKeysError::Signing("the key that was just made is not there".to_owned());
        self.known().signing.clone().ok_or_else(nothing)
    }

    async fn insert(&self, actor: Actor) -> Result<Model, SigningKeysError> {
        let failed = |_| SigningKeysError::Signing("no key could be made".to_owned());
        let pair = Ed25519KeyPair::generate().map_err(failed)?;
        let private = pair.to_pkcs8v1().map_err(failed)?;
        let kid = format!("sig_{}", Uuid::new_v4().simple());
        let sealed = self.seals.close(private.as_ref(), &kid);
        let public = pair.public_key().as_ref();
        let transaction = begin_row_write(&self.db).await?;
        let row = signing_keys::insert(&transaction, &kid, public, sealed.bytes, sealed.version).await?;
        let act = Act { tenant_id: INSTALLATION, action: "signing_key.rotated", subject: &kid, details: json!({}) };
        audit::append(&transaction, actor, act).await?;
        transaction.commit().await?;
        Ok(row)
    }

    /// Returns after a read of the table that began when this was called or later: all who ask meanwhile share one.
    async fn look_again(&self) -> Result<(), DbErr> {
        let asked_at = Instant::now();
        let mut read_at = self.reading.lock().await;
        if read_at.is_some_and(|at| at >= asked_at) {
            return Ok(());
        }
        if let Some(at) = *read_at {
            tokio::time::sleep_until(at + LOOK_AGAIN_AFTER).await;
        }
        self.read_rows(&mut read_at).await
    }

    async fn read(&self) -> Result<(), DbErr> {
        let mut read_at = self.reading.lock().await;
        self.read_rows(&mut read_at).await
    }

    async fn read_rows(&self, read_at: &mut Option<Instant>) -> Result<(), DbErr> {
        let began_at = Instant::now();
        let rows = signing_keys::all(&self.db).await?;
        let known = Known::of(rows, &self.seals, &self.issuer);
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known);
        *read_at = Some(began_at);
        Ok(())
    }

    async fn reseal(&self) -> Result<(), DbErr> {
        for row in signing_keys::all(&self.db).await? {
            if row.seal_version == self.seals.newest_version() {
                continue;
            }
            match self.seals.open(&sealed(&row), &row.kid) {
                Ok(private) => {
                    let Sealed { version, bytes } = self.seals.close(&private, &row.kid);
                    signing_keys::reseal(&self.db, &row, bytes, version).await?;
                }
                Err(error) => tracing::warn!(kid = row.kid, %error, "A signing key signs no more"),
            }
        }
        Ok(())
    }

    fn is_old(&self, signing: &Signing) -> bool {
        let age_ms = i64::try_from(wall_clock::since_epoch().as_millis()).unwrap_or(i64::MAX) - signing.created_at_ms;
        u128::try_from(age_ms).is_ok_and(|age_ms| age_ms >= self.rotate_after.as_millis())
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Known {
    fn of(rows: Vec<Model>, seals: &Seals, issuer: &str) -> Self {
        let keys = || rows.iter().map(TokenKey::from).map(|key| (key.kid, key.x));
        let of_tenants = Verifier::new(issuer, token::API, keys());
        let of_services = Verifier::new(issuer, token::SERVICES, keys());
        let of_files = Verifier::new(issuer, token::FILES, keys());
        let signing = rows.iter().find_map(|row| {
            let private = seals.open(&sealed(row), &row.kid).ok()?;
            let key = EncodingKey::from_ed_der(&private);
            Some(Signing { kid: row.kid.clone(), key, created_at_ms: row.created_at_ms })
        });
        Self { rows, of_tenants, of_services, of_files, signing }
    }
}

fn sealed(row: &Model) -> Sealed {
    Sealed { version: row.seal_version, bytes: row.sealed_private_key.clone() }
}

impl From<&Model> for TokenKey {
    fn from(row: &Model) -> Self {
        Self { kid: row.kid.clone(), x: URL_SAFE_NO_PAD.encode(&row.public_key) }
    }
}

impl From<SigningKeysError> for RegistryError {
    fn from(error: SigningKeysError) -> Self {
        match error {
            SigningKeysError::Database(error) => error.into(),
            SigningKeysError::Signing(error) => Self::Storage(std::io::Error::other(error)),
        }
    }
}
