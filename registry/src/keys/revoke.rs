//! Ending keys: one and what was made with it, or a person's.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr};
use serde_json::{Value, json};
use souk_protocol::{KeyId, PersonId, Principal, TenantId};

use super::Theirs;
use crate::Registry;
use crate::audit::{self, Act, Actor};
use crate::db::{InvitationRow, KeyRow, MAX_IN, api_keys, begin_write, invitations, sign_in_links, withdrawals};
use crate::error::RegistryError;
use crate::events::{self, Event, Kind};
use crate::rights::{Action, Reach, require};
use crate::withdrawals::Withdrawn;

/// What becomes of the keys that were made with a key that is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// Whoever had the key could have made them: they go with it.
    RevokedToo,
    /// The key was replaced and nobody else had it.
    Kept,
}

/// Why keys end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Somebody asked for it.
    Asked,
    /// Somebody showed the key.
    Leaked,
    /// The person left the tenant.
    Left,
    /// The person may do less in the tenant than before.
    Lowered,
    /// The tenant's policy does not allow them.
    Policy,
    /// Another key took its place at once.
    Rotated,
}

/// Who ends keys.
pub(crate) struct Revoker<'a> {
    /// The registry that does it, [`Registry::owner`], which hears of it at once.
    pub(crate) registry: &'a str,
    pub(crate) actor: Actor,
    /// The key or session that asks for it; `None` where none did.
    pub(crate) key: Option<&'a str>,
}

impl Registry {
    /// Revokes a key and, unless they are to be kept, the keys that were made with it, and with those: no registry of
    /// this database takes them from the next request on, and running answers end. A key that the caller may not see does
    /// not exist. Of a person without the right to manage the tenant's keys, services' keys that were made with it stay.
    pub(crate) async fn revoke_key(&self, principal: &Principal, id: &str, made: Made) -> Result<(), RegistryError> {
        let reach = require(principal, Action::RevokeKey)?;
        let theirs = Theirs::of(principal, reach);
        let transaction = begin_write(&self.db).await?;
        let found = api_keys::lock(&transaction, id).await?.filter(|key| theirs.have(key));
        let key = found.ok_or_else(|| RegistryError::NotFound { what: "key", name: id.to_owned() })?;
        let mut ids = match made {
            Made::Kept => vec![key.id.clone()],
            Made::RevokedToo => descent(&transaction, &key.id).await?,
        };
        if reach == Reach::Persons {
            ids = those_of(&theirs, &transaction, &ids).await?;
        }
        if key.id != principal.key.as_str() && ids.iter().any(|id| id == principal.key.as_str()) {
            return Err(RegistryError::OwnKeyMadeWithIt(key.id));
        }
        let withdrawn = revoke(&transaction, &self.revoker(principal), &key, &ids, Why::Asked, json!({})).await?;
        if made == Made::RevokedToo {
            end_ways_in(&transaction, &Actor::of(principal), &ids, Why::Asked).await?;
        }
        transaction.commit().await?;
        let num_revoked = withdrawn.len();
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

    /// The caller as one who ends keys.
    pub(crate) fn revoker<'a>(&'a self, principal: &'a Principal) -> Revoker<'a> {
        Revoker { registry: &self.owner, actor: Actor::of(principal), key: Some(principal.key.as_str()) }
    }
}

/// Ends the keys that a person has in a tenant, since it is no member of it any more or may do less there. Services' keys
/// stay, whoever made them. To be called in a transaction that excludes all others ([`begin_write`]); when it is committed, tell
/// `registry.withdrawals` what this answers, so that running answers end.
pub(crate) async fn revoke_of_person(
    transaction: &DatabaseTransaction,
    revoker: &Revoker<'_>,
    tenant: &TenantId,
    person: &PersonId,
    why: Why,
) -> Result<Vec<Withdrawn>, DbErr> {
    let ids = api_keys::unrevoked_of_person(transaction, tenant, person).await?;
    let Some(first) = ids.first() else { return Ok(Vec::new()) };
    let Some(first) = api_keys::lock(transaction, first).await? else { return Ok(Vec::new()) };
    revoke(transaction, revoker, &first, &ids, why, json!({ "person": person.as_str() })).await
}

/// Ends keys in the transaction of whatever is the cause, and notes it for other registries, in the chain of each tenant
/// that has one of them, and outside. `first` is the one that the others go with; its tenant hears `outside` too. Answers
/// what is to be told once this is committed: keys that had been revoked before are not among it.
pub(super) async fn revoke(
    transaction: &DatabaseTransaction,
    revoker: &Revoker<'_>,
    first: &KeyRow,
    ids: &[String],
    why: Why,
    outside: Value,
) -> Result<Vec<Withdrawn>, DbErr> {
    let mut by_tenant = BTreeMap::<String, Vec<String>>::new();
    for some in ids.chunks(MAX_IN) {
        let unrevoked = api_keys::unrevoked(transaction, some).await?;
        let ids: Vec<_> = unrevoked.iter().map(|(id, _)| id.clone()).collect();
        api_keys::revoke(transaction, &ids, revoker.key, why.as_column()).await?;
        for (id, tenant_id) in unrevoked {
            by_tenant.entry(tenant_id).or_default().push(id);
        }
    }
    let withdrawn: Vec<_> = by_tenant.values().flatten().map(|id| Withdrawn::Key(KeyId::from_stored(id))).collect();
    withdrawals::insert_all(transaction, revoker.registry, withdrawn.iter().map(Withdrawn::to_row)).await?;
    for (tenant_id, keys) in &by_tenant {
        let is_leak = why == Why::Leaked && *tenant_id == first.tenant_id;
        let kind = if is_leak { Kind::KeyLeaked } else { Kind::KeyRevoked };
        let mut payload = json!({ "keys": keys, "revoked_by": revoker.key, "revoked_for": why.as_column() });
        if let (Some(payload), Value::Object(outside)) = (payload.as_object_mut(), &outside)
            && *tenant_id == first.tenant_id
        {
            payload.extend(outside.clone());
        }
        events::emit(
            transaction,
            Event { tenant: &TenantId::from_stored(tenant_id), kind, subject: &first.id, payload },
        )
        .await?;
    }
    // In the order of tenants, as everybody who appends to several chains.
    for (tenant_id, keys) in &by_tenant {
        let act = Act {
            tenant_id,
            action: why.as_action(),
            subject: &first.id,
            details: json!({ "keys": keys, "revoked_for": why.as_column() }),
        };
        audit::append(transaction, revoker.actor.clone(), act).await?;
    }
    Ok(withdrawn)
}

/// Ends what nobody used yet of the invitations and links that were made with keys: whoever had one of these could have
/// made them, to come back.
pub(super) async fn end_ways_in(
    transaction: &DatabaseTransaction,
    actor: &Actor,
    ids: &[String],
    why: Why,
) -> Result<(), DbErr> {
    for some in ids.chunks(MAX_IN) {
        sign_in_links::delete_made_by(transaction, some).await?;
        let open = invitations::open_made_by(transaction, some).await?;
        take_back(transaction, actor, &open, why).await?;
    }
    Ok(())
}

/// Takes invitations back, in the order of their tenants, in whose chains it is noted.
pub(crate) async fn take_back(
    transaction: &DatabaseTransaction,
    actor: &Actor,
    open: &[InvitationRow],
    why: Why,
) -> Result<(), DbErr> {
    for invitation in open {
        if invitations::revoke(transaction, &invitation.id).await? {
            let details = json!({ "revoked_for": why.as_column() });
            let (tenant_id, subject) = (&invitation.tenant_id, &invitation.id);
            let act = Act { tenant_id, action: "invitation.revoked", subject, details };
            audit::append(transaction, actor.clone(), act).await?;
        }
    }
    Ok(())
}

/// A key, the keys that were made with it, those that were made with them, and so on.
pub(super) async fn descent(connection: &impl ConnectionTrait, id: &str) -> Result<Vec<String>, DbErr> {
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

async fn those_of(theirs: &Theirs, connection: &impl ConnectionTrait, ids: &[String]) -> Result<Vec<String>, DbErr> {
    let mut own = Vec::new();
    for some in ids.chunks(MAX_IN) {
        let rows = api_keys::by_ids(connection, some).await?;
        own.extend(rows.into_iter().filter(|key| theirs.have(key)).map(|key| key.id));
    }
    Ok(own)
}

impl Why {
    const fn as_column(self) -> Option<&'static str> {
        match self {
            Self::Asked => None,
            Self::Leaked => Some("leaked"),
            Self::Left => Some("left"),
            Self::Lowered => Some("lowered"),
            Self::Policy => Some("policy"),
            Self::Rotated => Some("rotated"),
        }
    }

    const fn as_action(self) -> &'static str {
        match self {
            Self::Leaked => "key.leaked",
            _ => "key.revoked",
        }
    }
}

#[cfg(test)]
mod tests {
    use souk_protocol::{Scope, Scopes};

    use super::*;
    use crate::RegistryConfig;
    use crate::db::tenants;
    use crate::keys::{NewKey, insert_key};

    #[tokio::test]
    async fn who_leaves_a_tenant_takes_own_keys_along_and_no_services_nor_those_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::open_embedded(RegistryConfig::new(folder.path()), Vec::new()).await.unwrap();
        let (person, other) = (PersonId::new(), PersonId::new());
        let mut ids = Vec::new();
        let scopes: Scopes = [Scope::Inference].into();
        let (acme, rival) = (tenants::insert(&registry.db, "acme"), tenants::insert(&registry.db, "rival"));
        let (acme, rival) = (acme.await.unwrap().id, rival.await.unwrap().id);
        for (tenant_id, person, made_by) in [
            (&acme, Some(&person), None),
            (&acme, Some(&person), Some(0)),
            (&acme, None, Some(0)),
            (&acme, Some(&other), None),
            (&rival, Some(&person), None),
        ] {
            let new = NewKey {
                tenant_id: tenant_id.clone(),
                person: person.cloned(),
                name: "k".to_owned(),
                scopes: scopes.clone(),
                models: None,
                expires_at_ms: None,
                made_by: made_by.map(|index: usize| String::clone(&ids[index])),
                team: None,
            };
            ids.push(insert_key(&registry.db, &registry.authenticator, new).await.unwrap().0.id);
        }
        let transaction = begin_write(&registry.db).await.unwrap();
        let revoker = Revoker { registry: &registry.owner, actor: Actor::System, key: None };
        let tenant = TenantId::from_stored(&acme);
        let mut told = revoke_of_person(&transaction, &revoker, &tenant, &person, Why::Left).await.unwrap();
        transaction.commit().await.unwrap();
        told.sort_by_key(|withdrawn| withdrawn.to_row().subject);
        let mut expected: Vec<_> = ids[..2].iter().map(|id| Withdrawn::Key(KeyId::from_stored(id))).collect();
        expected.sort_by_key(|withdrawn| withdrawn.to_row().subject);
        assert_eq!(told, expected);
        for (index, id) in ids.iter().enumerate() {
            let row = api_keys::lock(&registry.db, id).await.unwrap().unwrap();
            assert_eq!(row.revoked_for.as_deref(), (index < 2).then_some("left"), "{index}");
        }
        let transaction = begin_write(&registry.db).await.unwrap();
        let again = revoke_of_person(&transaction, &revoker, &tenant, &person, Why::Left).await.unwrap();
        assert_eq!(again, [], "nothing is ended twice");
    }
}
