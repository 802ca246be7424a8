//! `Idempotency-Key`: a call that makes something can be repeated without making it twice.
//!
//! The first request with a key claims (tenant, route, key) with a row under a lease. The answer of a success is kept
//! in that row, in the transaction that makes what was asked for: either both are there or neither is. It is kept for
//! 24 hours and repeated to the same body; another body is a mismatch, and a request that arrives while the first still
//! runs is told so. It is repeated only to a key that may all that the first could, and what it was about has to be the
//! caller's still. Anything but a success sets the key free. The claim of a registry that is gone is set free when its
//! lease has lapsed; should that registry only have stalled, its transaction fails (`lease_lost`) and makes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sea_orm::{DatabaseConnection, DatabaseTransaction, DbErr};
use serde::Serialize;
use souk_protocol::{Digest, Principal, Scope};
use uuid::Uuid;

use crate::Registry;
use crate::auth::{scopes_from_column, scopes_to_column};
use crate::db::begin_write_of;
use crate::db::idempotent_requests::{self, Name};
use crate::error::RegistryError;
use crate::lease::Renewal;

/// Every route that keeps answers answers a success with this: it made something.
const CREATED: u16 = 201;

/// What the first look at a key found.
pub(crate) enum Claim {
    /// Nobody used it: go on.
    New(OpenClaim),
    /// It was used, and this was the answer.
    Kept(KeptAnswer),
}

/// An answer that was given before.
pub(crate) struct KeptAnswer {
    /// HTTP status.
    pub(crate) status: u16,
    /// JSON.
    pub(crate) body: String,
    body_digest: String,
}

/// A claim whose request runs. Dropped before an answer was kept, it sets the key free.
pub(crate) struct OpenClaim {
    db: DatabaseConnection,
    name: Name,
    /// Names this taking of the key.
    claim: String,
    /// It has been released, so that dropping it does nothing.
    is_over: AtomicBool,
    _renewal: Renewal,
}

/// Keeps the answer of one call, if the caller sent a key with it.
#[derive(Clone, Default)]
pub(crate) struct Once(Option<Arc<(OpenClaim, Digest)>>);

impl Registry {
    /// Takes the key that the caller chose for `route`, or finds out what it was used for.
    pub(crate) async fn claim(
        &self,
        principal: &Principal,
        route: String,
        key: String,
    ) -> Result<Claim, RegistryError> {
        // An operator's acts are not repeated to a key of its tenant that could not have done them.
        let route = if principal.may(Scope::Admin) { format!("{route} (admin)") } else { route };
        // Nor what a person makes for itself to another of the tenant.
        let route = principal.person.iter().fold(route, |route, person| format!("{route} ({person})"));
        let name = Name { tenant_id: principal.tenant.to_string(), route, key };
        let claim = format!("clm_{}", Uuid::new_v4().simple());
        let lease = self.config.settings.lease;
        let transaction = begin_write_of(&self.db, &principal.tenant).await?;
        let scopes = scopes_to_column(&principal.scopes);
        if idempotent_requests::insert(&transaction, &name, &claim, &scopes, lease).await? {
            transaction.commit().await?;
            return Ok(Claim::New(OpenClaim::new(self.db.clone(), name, claim, lease)));
        }
        transaction.rollback().await?;
        let row = idempotent_requests::get(&self.db, &name).await?;
        // A row that is gone again belonged to a request that failed just now: the caller's retry will find it free.
        let Some(row) = row else { return Err(RegistryError::IdempotencyInFlight) };
        // Who could not have done it does not hear what another key of the tenant made of it.
        let needed = row.scopes.as_deref().map(scopes_from_column).unwrap_or_default();
        if let Some(missing) = needed.into_iter().find(|scope| !principal.may(*scope)) {
            return Err(RegistryError::MissingScope(missing));
        }
        match (row.status.and_then(|status| u16::try_from(status).ok()), row.body_digest, row.response) {
            (Some(status), Some(body_digest), Some(body)) => Ok(Claim::Kept(KeptAnswer { status, body, body_digest })),
            _ => Err(RegistryError::IdempotencyInFlight),
        }
    }
}

impl KeptAnswer {
    /// The answer once more, if the request is the same.
    pub(crate) fn for_body(self, digest: &Digest) -> Result<Self, RegistryError> {
        if self.body_digest == digest.to_string() { Ok(self) } else { Err(RegistryError::IdempotencyMismatch) }
    }
}

impl OpenClaim {
    fn new(db: DatabaseConnection, name: Name, claim: String, lease: Duration) -> Self {
        let renewal = {
            let (db, name, claim) = (db.clone(), name.clone(), claim.clone());
            Renewal::of(format!("{} with an Idempotency-Key", name.route), lease, move || {
                let (db, name, claim) = (db.clone(), name.clone(), claim.clone());
                async move { idempotent_requests::renew(&db, &claim, &name, lease).await }
            })
        };
        Self { db, name, claim, is_over: AtomicBool::new(false), _renewal: renewal }
    }

    /// Sets the key free, unless an answer was kept.
    async fn release(&self) -> Result<(), DbErr> {
        idempotent_requests::release(&self.db, &self.name, &self.claim).await?;
        self.is_over.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for OpenClaim {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.is_over.load(Ordering::Relaxed) {
            return;
        }
        let (db, name, claim) = (self.db.clone(), self.name.clone(), self.claim.clone());
        runtime.spawn(async move {
            if let Err(error) = idempotent_requests::release(&db, &name, &claim).await {
                tracing::warn!(%error, "The Idempotency-Key of a failed request stays taken until its lease lapses");
            }
        });
    }
}

impl Once {
    /// `claim` for a request whose body has this digest.
    pub(crate) fn new(claim: Option<OpenClaim>, body_digest: Digest) -> Self {
        Self(claim.map(|claim| Arc::new((claim, body_digest))))
    }

    /// Keeps the answer in the transaction that makes what was asked for.
    pub(crate) async fn keep_in<A: Serialize>(
        &self,
        transaction: &DatabaseTransaction,
        answer: impl FnOnce() -> A,
    ) -> Result<(), RegistryError> {
        let Some((claim, body_digest)) = self.0.as_deref() else { return Ok(()) };
        let body = serde_json::to_string(&answer()).expect("answers have only text keys");
        let digest = body_digest.to_string();
        let is_kept =
            idempotent_requests::keep(transaction, &claim.name, &claim.claim, &digest, CREATED, &body).await?;
        if is_kept { Ok(()) } else { Err(RegistryError::LeaseLost) }
    }

    /// Sets the key free before the caller hears of a failure, so that it can try again at once. After a success there
    /// is nothing to set free.
    pub(crate) async fn end(self) {
        let Some((claim, _)) = self.0.as_deref() else { return };
        if let Err(error) = claim.release().await {
            tracing::warn!(%error, "The Idempotency-Key of a failed request stays taken until its lease lapses");
        }
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::ConnectionTrait as _;
    use souk_protocol::{KeyId, TenantId};

    use super::*;
    use crate::RegistryConfig;
    use crate::adapters::NewAdapter;
    use crate::db::tenants;
    use crate::words::Visibility;

    async fn registry(folder: &std::path::Path) -> (Registry, Principal) {
        let registry = Registry::open_embedded(RegistryConfig::new(folder), Vec::new()).await.unwrap();
        let tenant = tenants::insert(&registry.db, "acme").await.unwrap();
        let principal = Principal {
            tenant: TenantId::from_stored(tenant.id),
            tenant_name: tenant.name,
            key: KeyId::from_stored("key"),
            person: None,
            models: None,
            scopes: Scope::ALL.into_iter().collect(),
        };
        (registry, principal)
    }

    async fn once(registry: &Registry, principal: &Principal) -> Once {
        let claim = registry.claim(principal, "POST /x".to_owned(), "k".to_owned()).await.unwrap();
        let Claim::New(claim) = claim else { panic!("the key is in use") };
        Once::new(Some(claim), Digest::of(b"body"))
    }

    async fn create(registry: &Registry, principal: &Principal, once: &Once) -> Result<(), RegistryError> {
        let (name, visibility) = ("sst2".to_owned(), Visibility::Private);
        let new = NewAdapter { name, owner: None, visibility, description: String::new() };
        registry.create_adapter(principal, new, once, |_| "made").await.map(|_| ())
    }

    #[tokio::test]
    async fn a_call_whose_claim_was_ended_makes_nothing_though_another_has_the_key_by_now() {
        let folder = tempfile::tempdir().unwrap();
        let (registry, principal) = registry(folder.path()).await;
        let stalled = once(&registry, &principal).await;
        // What the collector does with a claim that has lapsed; a repetition then takes the key.
        registry.db.execute_unprepared("DELETE FROM idempotent_requests").await.unwrap();
        let repeated = once(&registry, &principal).await;
        let lost = create(&registry, &principal, &stalled).await;
        assert!(matches!(lost, Err(RegistryError::LeaseLost)), "{lost:?}");
        stalled.end().await;
        // The stalled call neither made the adapter nor set free what is another's.
        create(&registry, &principal, &repeated).await.unwrap();
        repeated.end().await;
        let kept = registry.claim(&principal, "POST /x".to_owned(), "k".to_owned()).await.unwrap();
        assert!(matches!(kept, Claim::Kept(kept) if kept.status == CREATED && kept.body == "\"made\""));
    }

    #[tokio::test]
    async fn a_call_that_failed_sets_its_key_free() {
        let folder = tempfile::tempdir().unwrap();
        let (registry, principal) = registry(folder.path()).await;
        create(&registry, &principal, &Once::default()).await.unwrap();
        let failed = once(&registry, &principal).await;
        let second = create(&registry, &principal, &failed).await;
        assert!(matches!(second, Err(RegistryError::AlreadyExists { .. })));
        failed.end().await;
        once(&registry, &principal).await.end().await;
    }
}
