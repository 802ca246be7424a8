//! Services of the installation that call others: gateways and nodes. The operator makes a key for each, which it exchanges
//! for tokens ([`Registry::exchange_for_service`]); with these it calls what is below `/registry/v1/internal`, and nothing
//! else. A service's key has the shape of an API key, belongs to no tenant, and opens nothing by itself.

use sea_orm::{DatabaseTransaction, DbErr};
use serde::Serialize;
use serde_json::{Value, json};
use souk_protocol::reference::check_name_part;
use souk_protocol::{KeyId, Principal, ServiceKind};

use crate::Registry;
use crate::audit::{self, Act, Actor, INSTALLATION};
use crate::auth::{ApiKey, AuthError, MalformedKey};
use crate::db::{ServiceRow, begin_write, now_ms, services, withdrawals};
use crate::error::{Finding, RegistryError};
use crate::idempotency::Once;
use crate::rights::{Action, require};
use crate::slice::Slice;
use crate::withdrawals::Withdrawn;

/// Most keys of services that are not revoked: a fleet, twice over while each follows another.
const MAX_USABLE: usize = 1000;

impl Registry {
    /// Makes a key for a service; its secret is nowhere but in the answer. `shape` makes the answer that is kept for an
    /// `Idempotency-Key`, which has no secret.
    pub(crate) async fn create_service<A: Serialize>(
        &self,
        principal: &Principal,
        name: &str,
        kind: ServiceKind,
        once: &Once,
        shape: impl FnOnce(ServiceRow) -> A,
    ) -> Result<(ServiceRow, ApiKey), RegistryError> {
        require(principal, Action::CreateService)?;
        let finding = check_name_part("name", name).err().map(|error| Finding::field("name", error.to_string()));
        RegistryError::unless_valid(finding.into_iter().collect())?;
        let key = ApiKey::generate();
        let (pepper_version, secret_hash) = self.authenticator.hash_new(&key);
        let transaction = begin_write(&self.db).await?;
        let given = services::count_usable(&transaction).await?;
        RegistryError::unless_fewer(given, MAX_USABLE, |given, limit| {
            let (of, setting) = ("the installation".to_owned(), "their limit");
            RegistryError::TooMany { what: "keys of services", of, setting, limit, given, remedy: "revoke one first" }
        })?;
        let row = ServiceRow {
            id: key.id().as_str().to_owned(),
            name: name.to_owned(),
            secret_hash: secret_hash.to_vec(),
            pepper_version,
            created_at_ms: now_ms(),
            made_by: principal.key.to_string(),
            revoked_at_ms: None,
            revoked_by: None,
            kind: Some(kind.to_string()),
        };
        let row = services::insert(&transaction, row).await?;
        let details = json!({ "kind": kind });
        let act = Act { tenant_id: INSTALLATION, action: "service.created", subject: &row.id, details };
        audit::append(&transaction, Actor::of(principal), act).await?;
        once.keep_in(&transaction, || shape(row.clone())).await?;
        transaction.commit().await?;
        let (id, by) = (&row.id, &principal.key);
        tracing::info!(service.id = id, service.name = name, by.key = %by, "Made key {id} for the {kind} {name}");
        Ok((row, key))
    }

    /// Keys of services, revoked ones included, by id.
    pub(crate) async fn list_services(
        &self,
        principal: &Principal,
        slice: Slice,
    ) -> Result<Vec<ServiceRow>, RegistryError> {
        require(principal, Action::ListServices)?;
        let limit = slice.with_one_more();
        Ok(services::list(&self.db, slice.after, limit).await?)
    }

    /// Revokes a service's key: no registry takes it from the next call on, nor its tokens within a second. Again for one
    /// that is revoked it changes nothing.
    pub(crate) async fn revoke_service(&self, principal: &Principal, id: &str) -> Result<(), RegistryError> {
        require(principal, Action::RevokeService)?;
        let transaction = begin_write(&self.db).await?;
        let not_found = || RegistryError::NotFound { what: "service", name: id.to_owned() };
        let row = services::get(&transaction, id).await?.ok_or_else(not_found)?;
        if !services::revoke(&transaction, id, Some(principal.key.as_str())).await? {
            return Ok(());
        }
        let withdrawn = self.note_end(&transaction, id, Actor::of(principal), json!({})).await?;
        transaction.commit().await?;
        self.withdrawals.tell([withdrawn]);
        let by = &principal.key;
        tracing::warn!(service.id = id, service.name = row.name, by.key = %by, "Key {by} revoked the service's key {id}");
        Ok(())
    }

    /// Revokes a service's key that somebody showed; again it changes nothing.
    pub(crate) async fn revoke_leaked_service(&self, id: &str) -> Result<(), DbErr> {
        let transaction = begin_write(&self.db).await?;
        if !services::revoke(&transaction, id, None).await? {
            return Ok(());
        }
        let withdrawn = self.note_end(&transaction, id, Actor::System, json!({ "revoked_for": "leaked" })).await?;
        transaction.commit().await?;
        self.withdrawals.tell([withdrawn]);
        tracing::warn!(service.id = id, "The service's key {id} was reported as leaked and revoked");
        Ok(())
    }

    async fn note_end(
        &self,
        transaction: &DatabaseTransaction,
        id: &str,
        actor: Actor,
        details: Value,
    ) -> Result<Withdrawn, DbErr> {
        let withdrawn = Withdrawn::Key(KeyId::from_stored(id));
        withdrawals::insert_all(transaction, &self.owner, [withdrawn.to_row()]).await?;
        let act = Act { tenant_id: INSTALLATION, action: "service.revoked", subject: id, details };
        audit::append(transaction, actor, act).await?;
        Ok(withdrawn)
    }

    /// The row of the service whose key this is, if it counts now.
    pub(crate) async fn service_with(&self, presented: &str) -> Result<ServiceRow, AuthError> {
        let key = ApiKey::parse(presented).map_err(|MalformedKey| AuthError::Invalid)?;
        let found = services::get(&self.db, key.id().as_str()).await.map_err(AuthError::unavailable)?;
        let row = found.ok_or(AuthError::Invalid)?;
        if !self.authenticator.is_hash_of(&key, row.pepper_version, &row.secret_hash) {
            return Err(AuthError::Invalid);
        }
        if row.revoked_at_ms.is_some() {
            return Err(AuthError::Revoked);
        }
        Ok(row)
    }
}
