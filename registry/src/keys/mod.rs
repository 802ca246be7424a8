//! API keys of a tenant: making, listing, revoking. How a presented key is verified is in [`crate::auth`].

use sea_orm::{ConnectionTrait, DbErr};
use serde::Serialize;
use souk_protocol::{Principal, Scope, Scopes, wall_clock};
use time::OffsetDateTime;

use crate::Registry;
use crate::auth::{ApiKey, Authenticator, scopes_from_column, scopes_to_column};
use crate::db::{KeyRow, api_keys, begin_write, ms_of, now_ms, tenants};
use crate::error::{Finding, RegistryError};
use crate::idempotency::Once;
use crate::rights::require;
use crate::slice::Slice;

/// Longest name of a key.
const MAX_NAME_CHARS: usize = 100;

/// A key as a caller asks for it, unchecked.
pub(crate) struct KeyRequest {
    /// What its owner calls it.
    pub(crate) name: String,
    /// Scopes by name.
    pub(crate) scopes: Vec<String>,
    /// When it stops working by itself.
    pub(crate) expires_at: Option<OffsetDateTime>,
    /// A tenant's name; `None` for the caller's own.
    pub(crate) tenant: Option<String>,
}

/// What a new key is made from.
pub(crate) struct NewKey {
    pub(crate) tenant_id: String,
    pub(crate) name: String,
    pub(crate) scopes: Scopes,
    pub(crate) expires_at_ms: Option<i64>,
}

impl Registry {
    /// Makes a key; its secret is nowhere but in the answer. `shape` makes the answer that is kept for an
    /// `Idempotency-Key`, which has no secret.
    pub(crate) async fn create_key<A: Serialize>(
        &self,
        principal: &Principal,
        request: KeyRequest,
        once: &Once,
        shape: impl FnOnce(KeyRow) -> A,
    ) -> Result<(KeyRow, ApiKey), RegistryError> {
        require(principal, Scope::KeysManage)?;
        let scopes = check_fields(&request)?;
        let tenant_id = self.tenant_of_keys(principal, request.tenant.as_deref()).await?;
        if let Some(missing) = scopes.iter().find(|scope| !principal.may(**scope)) {
            return Err(RegistryError::ScopeNotHeld(*missing));
        }
        let new = NewKey { tenant_id, scopes, name: request.name, expires_at_ms: request.expires_at.map(ms_of) };
        let transaction = begin_write(&self.db).await?;
        let (row, secret) = insert_key(&transaction, &self.authenticator, new).await?;
        once.keep_in(&transaction, || shape(row.clone())).await?;
        transaction.commit().await?;
        tracing::info!(key.id = row.id, key.scopes = row.scopes, "Made key {} with {}", row.id, row.scopes);
        Ok((row, secret))
    }

    /// A tenant's keys, revoked ones included, by id. `tenant` is a name; `None` means the caller's own.
    pub(crate) async fn list_keys(
        &self,
        principal: &Principal,
        tenant: Option<&str>,
        slice: Slice,
    ) -> Result<Vec<KeyRow>, RegistryError> {
        require(principal, Scope::KeysManage)?;
        let tenant_id = self.tenant_of_keys(principal, tenant).await?;
        let limit = slice.with_one_more();
        Ok(api_keys::list(&self.db, &tenant_id, slice.after, limit).await?)
    }

    /// Revokes a key: no registry of this database takes it from the next request on. Another tenant's key does not
    /// exist, except for an operator.
    pub(crate) async fn revoke_key(&self, principal: &Principal, id: &str) -> Result<(), RegistryError> {
        require(principal, Scope::KeysManage)?;
        let found = api_keys::get(&self.db, id).await?;
        let may_revoke = |key: &KeyRow| key.tenant_id == principal.tenant.as_str() || principal.may(Scope::Admin);
        let not_found = || RegistryError::NotFound { what: "key", name: id.to_owned() };
        let key = found.filter(may_revoke).ok_or_else(not_found)?;
        api_keys::revoke(&self.db, &key.id).await?;
        tracing::info!(key.id = key.id, "Revoked key {}", key.id);
        Ok(())
    }

    /// The id of the tenant whose keys are meant: the caller's own, or for an operator the one named.
    async fn tenant_of_keys(&self, principal: &Principal, named: Option<&str>) -> Result<String, RegistryError> {
        match named {
            None => Ok(principal.tenant.to_string()),
            Some(name) if name == principal.tenant_name => Ok(principal.tenant.to_string()),
            Some(_) if !principal.may(Scope::Admin) => Err(RegistryError::MissingScope(Scope::Admin)),
            Some(name) => {
                let found = tenants::named(&self.db, name).await?;
                let not_found = || RegistryError::NotFound { what: "tenant", name: name.to_owned() };
                Ok(found.ok_or_else(not_found)?.id)
            }
        }
    }
}

/// Makes a key and stores its hash. The key itself is nowhere but in the answer.
pub(crate) async fn insert_key(
    connection: &impl ConnectionTrait,
    authenticator: &Authenticator,
    new: NewKey,
) -> Result<(KeyRow, ApiKey), DbErr> {
    let key = ApiKey::generate();
    let (pepper_version, secret_hash) = authenticator.hash_new(&key);
    let row = KeyRow {
        id: key.id().as_str().to_owned(),
        tenant_id: new.tenant_id,
        name: new.name,
        scopes: scopes_to_column(&new.scopes),
        secret_hash: secret_hash.to_vec(),
        pepper_version,
        last_four: key.last_four().to_owned(),
        created_at_ms: now_ms(),
        expires_at_ms: new.expires_at_ms,
        revoked_at_ms: None,
        last_used_at_ms: None,
    };
    Ok((api_keys::insert(connection, row).await?, key))
}

/// How many keys of a tenant can operate the installation now.
pub(crate) async fn usable_admin_keys(connection: &impl ConnectionTrait, tenant_id: &str) -> Result<usize, DbErr> {
    let keys = api_keys::unrevoked_of(connection, tenant_id).await?;
    let is_usable = |key: &&KeyRow| {
        key.expires_at_ms.is_none_or(|expires_at_ms| expires_at_ms > now_ms())
            && scopes_from_column(&key.scopes).contains(&Scope::Admin)
    };
    Ok(keys.iter().filter(is_usable).count())
}

fn check_fields(request: &KeyRequest) -> Result<Scopes, RegistryError> {
    let mut findings = Vec::new();
    let num_chars = request.name.chars().count();
    if !(1..=MAX_NAME_CHARS).contains(&num_chars) {
        findings.push(Finding::field("name", format!("1 to {MAX_NAME_CHARS} characters, given {num_chars}")));
    }
    let mut scopes = Scopes::new();
    for (index, text) in request.scopes.iter().enumerate() {
        match text.parse::<Scope>() {
            Ok(scope) => _ = scopes.insert(scope),
            Err(error) => findings.push(Finding::field(format!("scopes[{index}]"), error.to_string())),
        }
    }
    if request.scopes.is_empty() {
        findings.push(Finding::field("scopes", "at least one scope, given none"));
    }
    if request.expires_at.is_some_and(|moment| moment <= wall_clock::now()) {
        findings.push(Finding::field("expires_at", "a moment in the future"));
    }
    RegistryError::unless_valid(findings)?;
    Ok(scopes)
}
