//! Keys of the installation's operator that are made on the host, with no key at all: at the first start, and when all
//! are lost ([`crate::recover`]).

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr};
use serde_json::json;
use souk_protocol::{Scope, TenantId};

use crate::Registry;
use crate::audit::{self, Act, Actor};
use crate::auth::{ApiKey, Authenticator, check_usable, scopes_from_column};
use crate::db::{KeyRow, api_keys, begin_write, tenants};
use crate::error::RegistryError;
use crate::keys::{NewKey, insert_key};

/// The tenant of the installation's operator.
pub const ADMIN_TENANT: &str = "admin";

impl Registry {
    /// Makes sure that somebody can operate the installation: on the first start makes the operator's tenant, [`ADMIN_TENANT`],
    /// and a key of it with all scopes, and answers that key for the caller to show once. Later starts answer `None`,
    /// unless no admin key is usable any more; then a new one is made. Of several registries that start at once, one
    /// makes it.
    ///
    /// # Errors
    /// [`RegistryError`] from the database.
    pub async fn bootstrap(&self) -> Result<Option<ApiKey>, RegistryError> {
        let transaction = begin_write(&self.db).await?;
        if is_any_usable(&transaction).await? {
            return Ok(None);
        }
        let (row, key) = insert_admin_key(&transaction, &self.authenticator, HostKey::First).await?;
        transaction.commit().await?;
        tracing::info!(key.id = row.id, "Made an admin key at the start, since none was usable");
        Ok(Some(key))
    }
}

/// Why the host makes an admin key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HostKey {
    /// None is usable as a registry starts.
    First,
    /// The operator has lost them all.
    Recovered,
}

/// Makes a key with all scopes for the operator, and the operator's tenant if there is none.
pub(crate) async fn insert_admin_key(
    transaction: &DatabaseTransaction,
    authenticator: &Authenticator,
    why: HostKey,
) -> Result<(KeyRow, ApiKey), DbErr> {
    let tenant = match tenants::named(transaction, ADMIN_TENANT).await? {
        Some(tenant) => tenant,
        None => {
            let made = tenants::insert(transaction, ADMIN_TENANT).await?;
            let act = Act { tenant_id: &made.id, action: "tenant.created", subject: &made.id, details: json!({}) };
            audit::append(transaction, Actor::Host, act).await?;
            made
        }
    };
    let (name, action) = match why {
        HostKey::First => ("first admin key", "key.bootstrapped"),
        HostKey::Recovered => ("recovered admin key", "key.recovered"),
    };
    let new = NewKey {
        tenant_id: tenant.id.clone(),
        person: None,
        name: name.to_owned(),
        scopes: Scope::ALL.into_iter().collect(),
        models: None,
        expires_at_ms: None,
        made_by: None,
        team: None,
    };
    let (row, key) = insert_key(transaction, authenticator, new).await?;
    let act = Act { tenant_id: &tenant.id, action, subject: &row.id, details: json!({ "scopes": row.scopes }) };
    audit::append(transaction, Actor::Host, act).await?;
    Ok((row, key))
}

/// Whether some key of the operator's tenant can operate the installation now.
async fn is_any_usable(connection: &impl ConnectionTrait) -> Result<bool, DbErr> {
    let Some(tenant) = tenants::named(connection, ADMIN_TENANT).await? else { return Ok(false) };
    let keys = api_keys::unrevoked_of(connection, &TenantId::from_stored(tenant.id)).await?;
    let may_admin = |key: &KeyRow| scopes_from_column(&key.scopes).contains(&Scope::Admin);
    Ok(keys.iter().any(|key| check_usable(key).is_ok() && may_admin(key)))
}
