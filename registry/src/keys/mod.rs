//! API keys of a tenant: making, listing, revoking. How a presented key is verified is in [`crate::auth`].

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr};
use serde::Serialize;
use serde_json::json;
use souk_protocol::{KeyId, PersonId, Principal, Scope, Scopes, TenantId, wall_clock};
use time::OffsetDateTime;

use crate::Registry;
use crate::audit::{Act, Actor, append};
use crate::auth::{
    ApiKey, AuthError, Authenticator, check_usable, effective, scopes_from_column, scopes_of, scopes_to_column,
};
use crate::db::{KeyRow, MAX_IN, api_keys, begin_write, moment, ms_of, now_ms, sessions, tenants, withdrawals};
use crate::error::{Finding, RegistryError};
use crate::idempotency::Once;
use crate::rights::{Action, OVER_ALL_KEYS, require};
use crate::slice::Slice;
use crate::withdrawals::Withdrawn;

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
    /// Whose it is; `None` for a service's.
    pub(crate) person: Option<PersonId>,
    pub(crate) name: String,
    pub(crate) scopes: Scopes,
    pub(crate) expires_at_ms: Option<i64>,
    /// The key that it is made with; `None` on the host.
    pub(crate) made_by: Option<String>,
}

/// What becomes of the keys that were made with a key that is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// Whoever had the key could have made them: they go with it.
    RevokedToo,
    /// The key was replaced and nobody else had it.
    Kept,
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
        require(principal, Action::CreateKey)?;
        let scopes = check_fields(&request)?;
        let tenant_id = self.tenant_of_keys(principal, request.tenant.as_deref()).await?;
        if let Some(missing) = scopes.iter().find(|scope| !principal.may(**scope)) {
            return Err(RegistryError::ScopeNotHeld(*missing));
        }
        let transaction = begin_write(&self.db).await?;
        let maker = Maker::lock(&transaction, principal).await?;
        if let Some(missing) =
            scopes.iter().find(|scope| !maker.scopes.contains(scope) && !principal.may(OVER_ALL_KEYS))
        {
            return Err(RegistryError::ScopeNotHeld(*missing));
        }
        let expires_at_ms = within(maker.expires_at_ms, request.expires_at.map(ms_of))?;
        // A person's own, where it is for the tenant that the person acts for.
        let person = principal.person.clone().filter(|_| tenant_id == principal.tenant.as_str());
        tenants::lock(&transaction, &tenant_id).await?;
        let given = api_keys::count_usable(&transaction, &tenant_id).await?;
        RegistryError::unless_fewer(given, self.config.settings.max_keys_per_tenant, |given, limit| {
            let (of, setting) = ("the tenant".to_owned(), "registry.max_keys_per_tenant");
            RegistryError::TooMany { what: "keys", of, setting, limit, given, remedy: "revoke one first" }
        })?;
        let made_by = Some(maker.id);
        let new = NewKey { tenant_id, person, scopes, name: request.name, expires_at_ms, made_by };
        let (row, secret) = insert_key(&transaction, &self.authenticator, new).await?;
        once.keep_in(&transaction, || shape(row.clone())).await?;
        transaction.commit().await?;
        let (key, maker) = (&row.id, &principal.key);
        tracing::info!(
            key.id = key,
            key.scopes = row.scopes,
            key.tenant = row.tenant_id,
            key.expires_at_ms = row.expires_at_ms,
            by.key = %maker,
            by.tenant = principal.tenant_name,
            "Made key {key} with key {maker}"
        );
        Ok((row, secret))
    }

    /// A tenant's keys, revoked ones included, by id. `tenant` is a name; `None` means the caller's own.
    pub(crate) async fn list_keys(
        &self,
        principal: &Principal,
        tenant: Option<&str>,
        slice: Slice,
    ) -> Result<Vec<KeyRow>, RegistryError> {
        require(principal, Action::ListKeys)?;
        let tenant_id = self.tenant_of_keys(principal, tenant).await?;
        let limit = slice.with_one_more();
        let hidden = (!principal.may(OVER_ALL_KEYS)).then_some(OVER_ALL_KEYS);
        let mut rows = api_keys::list(&self.db, &tenant_id, hidden, slice.after, limit).await?;
        if let Some(hidden) = hidden {
            // Which keys made and revoked them, if the caller may see those.
            let named = rows.iter().flat_map(|row| [row.made_by.clone(), row.revoked_by.clone()]).flatten().collect();
            let shown = api_keys::shown_of(&self.db, &tenant_id, hidden, named).await?;
            for row in &mut rows {
                row.made_by.take_if(|id| !shown.contains(id));
                row.revoked_by.take_if(|id| !shown.contains(id));
            }
        }
        Ok(rows)
    }

    /// Revokes a key and, unless they are to be kept, the keys that were made with it, and with those: no registry of
    /// this database takes them from the next request on, and running answers end. Another tenant's key and an admin
    /// key do not exist, except for an operator.
    pub(crate) async fn revoke_key(&self, principal: &Principal, id: &str, made: Made) -> Result<(), RegistryError> {
        require(principal, Action::RevokeKey)?;
        let transaction = begin_write(&self.db).await?;
        let found = api_keys::lock(&transaction, id).await?;
        let is_own = |key: &KeyRow| {
            key.tenant_id == principal.tenant.as_str() && !scopes_from_column(&key.scopes).contains(&OVER_ALL_KEYS)
        };
        let may_revoke = |key: &KeyRow| principal.may(OVER_ALL_KEYS) || is_own(key);
        let not_found = || RegistryError::NotFound { what: "key", name: id.to_owned() };
        let key = found.filter(may_revoke).ok_or_else(not_found)?;
        let ids = match made {
            Made::Kept => vec![key.id.clone()],
            Made::RevokedToo => descent(&transaction, &key.id).await?,
        };
        if key.id != principal.key.as_str() && ids.iter().any(|id| id == principal.key.as_str()) {
            return Err(RegistryError::OwnKeyMadeWithIt(key.id));
        }
        let mut withdrawn = Vec::new();
        for some in ids.chunks(MAX_IN) {
            let unrevoked = api_keys::unrevoked(&transaction, some).await?;
            api_keys::revoke(&transaction, &unrevoked, principal.key.as_str()).await?;
            withdrawn.extend(unrevoked.iter().map(|id| Withdrawn::Key(KeyId::from_stored(id))));
        }
        let num_revoked = withdrawn.len();
        withdrawals::insert_all(&transaction, &self.owner, withdrawn.iter().map(Withdrawn::to_row)).await?;
        transaction.commit().await?;
        self.withdrawals.tell(withdrawn);
        let (id, by) = (&key.id, &principal.key);
        tracing::warn!(
            key.id = id,
            key.tenant = key.tenant_id,
            num_revoked,
            by.key = %by,
            by.tenant = principal.tenant_name,
            "Key {by} revoked key {id}, in all {num_revoked} with those made with it"
        );
        Ok(())
    }

    /// The id of the tenant whose keys are meant: the caller's own, or for an operator the one named.
    async fn tenant_of_keys(&self, principal: &Principal, named: Option<&str>) -> Result<String, RegistryError> {
        match named {
            None => Ok(principal.tenant.to_string()),
            Some(name) if name == principal.tenant_name => Ok(principal.tenant.to_string()),
            Some(_) if !principal.may(OVER_ALL_KEYS) => Err(RegistryError::MissingScope(OVER_ALL_KEYS)),
            Some(name) => {
                let found = tenants::named(&self.db, name).await?;
                let not_found = || RegistryError::NotFound { what: "tenant", name: name.to_owned() };
                Ok(found.ok_or_else(not_found)?.id)
            }
        }
    }
}

/// What a key is made with, and so the bounds of what is made.
struct Maker {
    /// Of a key or a session.
    id: String,
    /// What it may do at this moment.
    scopes: Scopes,
    expires_at_ms: Option<i64>,
}

impl Maker {
    /// What the caller presented, which nobody ends before the transaction does: what is revoked, over or lowered meanwhile
    /// leaves no key behind.
    async fn lock(transaction: &DatabaseTransaction, principal: &Principal) -> Result<Self, RegistryError> {
        let id = principal.key.to_string();
        let key = api_keys::lock(transaction, &id).await?;
        if let Some(key) = key {
            check_usable(&key)?;
            let scopes = effective(transaction, &key).await?.ok_or(AuthError::Revoked)?;
            return Ok(Self { id, scopes, expires_at_ms: key.expires_at_ms });
        }
        let person = principal.person.as_ref().ok_or(AuthError::Invalid)?;
        let session = sessions::get(transaction, &id).await?.ok_or(AuthError::Invalid)?;
        if session.ended_at_ms.is_some() {
            return Err(RegistryError::SessionOver);
        }
        let scopes = scopes_of(transaction, &principal.tenant, person).await?.ok_or(RegistryError::SessionOver)?;
        // A key of a person's outlives the session that it was made with, and not the membership.
        Ok(Self { id, scopes, expires_at_ms: None })
    }
}

/// Who ends keys.
pub(crate) struct Revoker<'a> {
    /// The registry that does it, which need not be told.
    pub(crate) registry: &'a str,
    pub(crate) actor: Actor,
    /// The key or session that asks for it.
    pub(crate) key: Option<&'a str>,
}

impl Registry {
    /// The caller as one who ends keys.
    pub(crate) fn revoker<'a>(&'a self, principal: &'a Principal) -> Revoker<'a> {
        Revoker { registry: &self.owner, actor: Actor::of(principal), key: Some(principal.key.as_str()) }
    }
}

/// Ends the keys that a person has in a tenant, since it is no member of it any more. Services' keys stay, whoever made
/// them. To be called in a transaction that excludes all others ([`begin_write`]); when it is committed, tell
/// `registry.withdrawals` what this answers, so that running answers end.
pub(crate) async fn revoke_of_person(
    transaction: &DatabaseTransaction,
    revoker: &Revoker<'_>,
    tenant: &TenantId,
    person: &PersonId,
) -> Result<Vec<Withdrawn>, DbErr> {
    let ids = api_keys::unrevoked_of_person(transaction, tenant, person).await?;
    let Some(first) = ids.first().cloned() else { return Ok(Vec::new()) };
    for some in ids.chunks(MAX_IN) {
        api_keys::revoke(transaction, some, revoker.key.unwrap_or_default()).await?;
    }
    let withdrawn: Vec<_> = ids.iter().map(|id| Withdrawn::Key(KeyId::from_stored(id))).collect();
    withdrawals::insert_all(transaction, revoker.registry, withdrawn.iter().map(Withdrawn::to_row)).await?;
    let details = json!({ "keys": ids, "revoked_for": "left" });
    let act = Act { tenant_id: tenant.as_str(), action: "key.revoked", subject: &first, details };
    append(transaction, revoker.actor.clone(), act).await?;
    Ok(withdrawn)
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
        made_by: new.made_by,
        revoked_by: None,
        person_id: new.person.map(|person| person.to_string()),
    };
    Ok((api_keys::insert(connection, row).await?, key))
}

/// A key, the keys that were made with it, those that were made with them, and so on.
async fn descent(connection: &impl ConnectionTrait, id: &str) -> Result<Vec<String>, DbErr> {
    let mut all = vec![id.to_owned()];
    let mut num_asked = 0;
    // A key is made after the one that it is made with, so there is no circle.
    while num_asked < all.len() {
        let until = all.len().min(num_asked + MAX_IN);
        let made = api_keys::made_by(connection, &all[num_asked..until]).await?;
        num_asked = until;
        all.extend(made);
    }
    Ok(all)
}

/// The expiry of a key that is made with one that expires at `maker`: as asked for, and otherwise as late as may be.
fn within(maker: Option<i64>, asked: Option<i64>) -> Result<Option<i64>, RegistryError> {
    match (maker, asked) {
        (Some(maker), Some(asked)) if asked > maker => Err(RegistryError::ExpiryNotHeld { own: moment(maker) }),
        (maker, asked) => Ok(asked.or(maker)),
    }
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
