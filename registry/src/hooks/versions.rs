//! Versions of hooks: immutable once ready. How one comes to be is in [`super::publish`].

use std::cmp::Reverse;
use std::collections::BTreeMap;

use sea_orm::{DatabaseTransaction, DbErr};
use semver::Version;
use serde_json::{Value, json};
use souk_protocol::{Digest, Principal};

use super::lookup::{existing_version, version_not_found};
use super::rows::free;
use crate::audit::{self, Act, Actor};
use crate::db::{
    HookRow, HookVersionRow, begin_write, begin_write_of, hook_versions, hooks, now_ms, taken_down_content, withdrawals,
};
use crate::error::{Finding, RegistryError};
use crate::events::{self, Event, Kind};
use crate::objects::BlobReader;
use crate::rights::Action;
use crate::slice::{Slice, wrong_cursor};
use crate::withdrawals::Withdrawn;
use crate::words::VersionState;
use crate::{Registry, blobs, db};

const MAX_REASON_CHARS: usize = 1000;

/// A version and whose it is.
#[derive(Clone)]
pub(crate) struct HookVersionDetails {
    /// `owner/name` of its hook.
    pub(crate) hook: String,
    pub(crate) row: HookVersionRow,
}

impl Registry {
    /// A hook's versions, highest number first; a sort key is a number.
    pub(crate) async fn list_hook_versions(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        slice: Slice,
    ) -> Result<Vec<HookVersionDetails>, RegistryError> {
        let hook = self.hook_for(principal, Action::ListHookVersions, owner, name).await?;
        let below = slice.after.as_deref().map(Version::parse).transpose().map_err(|_| wrong_cursor())?;
        let mut rows = hook_versions::of_hook(&self.db, &hook.id).await?;
        rows.retain(|row| below.as_ref().is_none_or(|below| row.number() < *below));
        rows.sort_by_key(|row| Reverse(row.number()));
        rows.truncate(usize::try_from(slice.with_one_more()).unwrap_or(usize::MAX));
        Ok(rows.into_iter().map(|row| HookVersionDetails { hook: hook.full_name(), row }).collect())
    }

    /// One version.
    pub(crate) async fn get_hook_version(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        number: &str,
    ) -> Result<HookVersionDetails, RegistryError> {
        let hook = self.hook_for(principal, Action::GetHookVersion, owner, name).await?;
        let row = existing_version(&self.db, &hook, number).await?;
        Ok(HookVersionDetails { hook: hook.full_name(), row })
    }

    /// The component of a version that was not taken down, after all of its bytes were found to be those that were published.
    pub(crate) async fn open_component(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        number: &str,
    ) -> Result<(HookVersionRow, BlobReader), RegistryError> {
        let hook = self.hook_for(principal, Action::DownloadComponent, owner, name).await?;
        let version = existing_version(&self.db, &hook, number).await?;
        if version.state() == VersionState::TakenDown {
            return Err(RegistryError::TakenDown(format!("{owner}/{name}@{number}")));
        }
        let bytes = self.open_whole("component.wasm", &version.digest).await?;
        Ok((version, bytes))
    }

    /// Yanks a version, or makes a yanked one ready again. What is attached of it goes on.
    pub(crate) async fn set_hook_yanked(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        number: &str,
        is_yanked: bool,
    ) -> Result<HookVersionDetails, RegistryError> {
        let (state, kind, action, right) = if is_yanked {
            (VersionState::Yanked, Kind::HookVersionYanked, "yanked", Action::YankHookVersion)
        } else {
            (VersionState::Ready, Kind::HookVersionUnyanked, "unyanked", Action::UnyankHookVersion)
        };
        let hook = self.hook_for(principal, right, owner, name).await?;
        let transaction = begin_write_of(&self.db, &hook.tenant()).await?;
        let mut version = existing_version(&transaction, &hook, number).await?;
        if !matches!(version.state(), VersionState::Ready | VersionState::Yanked) {
            let name = format!("{owner}/{name}@{number}");
            return Err(RegistryError::WrongState { name, state: version.state, action });
        }
        if version.state() != state {
            hook_versions::set_state(&transaction, [version.id.as_str()], state, None).await?;
            version.state = state.as_str().to_owned();
            tell(&transaction, Actor::of(principal), kind, &[(&hook, &version)], json!({})).await?;
        }
        transaction.commit().await?;
        Ok(HookVersionDetails { hook: hook.full_name(), row: version })
    }

    /// Takes any tenant's version down, for a reason of 1 to 1,000 characters. It is the content that is taken down: with it goes
    /// every version of the same component, whoever's, and nobody can publish it again. What runs of it ends.
    pub(crate) async fn take_hook_down(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        number: &str,
        reason: String,
    ) -> Result<HookVersionDetails, RegistryError> {
        let hook = self.hook_for(principal, Action::TakeDownHookVersion, owner, name).await?;
        let given = reason.chars().count();
        let finding = Finding::field("reason", format!("1 to {MAX_REASON_CHARS} characters, given {given}"));
        let is_good = (1..=MAX_REASON_CHARS).contains(&given);
        RegistryError::unless_valid((!is_good).then_some(finding).into_iter().collect())?;
        let transaction = begin_write(&self.db).await?;
        let found = hook_versions::numbered_ever(&transaction, &hook.id, number).await?;
        let found = found.filter(|row| row.state() != VersionState::Validating);
        let mut version = found.ok_or_else(|| version_not_found(&hook, number))?;
        // Who publishes the same component meanwhile waits for this row, and is then refused.
        db::blobs::lock(&transaction, &version.digest).await?;
        let content = taken_down_content::Model {
            digest: version.digest.clone(),
            version_id: version.id.clone(),
            reason: reason.clone(),
            by_key: Some(principal.key.to_string()),
            taken_down_at_ms: now_ms(),
        };
        taken_down_content::insert_all(&transaction, vec![content]).await?;
        let alike = hook_versions::running_with(&transaction, &version.digest).await?;
        let ids = alike.iter().map(|other| other.id.as_str()).chain([version.id.as_str()]);
        let (state, because) = (VersionState::TakenDown, Some(reason.as_str()));
        hook_versions::set_state(&transaction, ids, state, because).await?;
        let digest = version.digest.parse::<Digest>().map_err(std::io::Error::other)?;
        let withdrawn = vec![Withdrawn::Version(digest)];
        withdrawals::insert_all(&transaction, &self.owner, withdrawn.iter().map(Withdrawn::to_row)).await?;
        let of_alike = hooks::by_ids(&transaction, alike.iter().map(|other| other.hook_id.as_str())).await?;
        let others = alike.iter().filter(|other| other.id != version.id).filter_map(|other| {
            let of_other = of_alike.iter().find(|hook| hook.id == other.hook_id)?;
            Some((of_other, other))
        });
        let all: Vec<_> = std::iter::once((&hook, &version)).chain(others).collect();
        let num_alike = all.len() - 1;
        let facts = json!({ "reason": reason });
        tell(&transaction, Actor::of(principal), Kind::HookVersionTakenDown, &all, facts).await?;
        transaction.commit().await?;
        self.withdrawals.tell(withdrawn);
        tracing::warn!(
            hook.owner = owner,
            hook.name = name,
            version.number = number,
            version.digest = version.digest,
            by.key = %principal.key,
            num_alike,
            reason,
            "Took {owner}/{name}@{number} down, and {num_alike} other versions of the same component"
        );
        version.state = VersionState::TakenDown.as_str().to_owned();
        version.state_reason = Some(reason);
        Ok(HookVersionDetails { hook: hook.full_name(), row: version })
    }

    /// Deletes a version, and the bytes that nothing else refers to. Its number can never be used again; what is attached of it
    /// fails from the next request on. Of one that was taken down the bytes go; that it was, and why, stays.
    pub(crate) async fn delete_hook_version(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        number: &str,
    ) -> Result<(), RegistryError> {
        let hook = self.hook_for(principal, Action::DeleteHookVersion, owner, name).await?;
        let transaction = begin_write_of(&self.db, &hook.tenant()).await?;
        let version = existing_version(&transaction, &hook, number).await?;
        if version.state() != VersionState::TakenDown {
            hook_versions::set_state(&transaction, [version.id.as_str()], VersionState::Deleted, None).await?;
        }
        let freed = free(&transaction, &hook, std::slice::from_ref(&version)).await?;
        let (kind, versions) = (Kind::HookVersionDeleted, [(&hook, &version)]);
        tell(&transaction, Actor::of(principal), kind, &versions, json!({})).await?;
        transaction.commit().await?;
        tracing::info!(
            hook.owner = owner,
            hook.name = name,
            version.number = number,
            "Deleted {owner}/{name}@{number}"
        );
        blobs::remove_released(&self.db, &*self.objects, freed).await;
        Ok(())
    }
}

/// Tells each tenant what became of versions of its hooks: outside an event for each, with `facts`, and one entry in its chain.
pub(super) async fn tell(
    transaction: &DatabaseTransaction,
    actor: Actor,
    kind: Kind,
    versions: &[(&HookRow, &HookVersionRow)],
    facts: Value,
) -> Result<(), DbErr> {
    let mut by_tenant = BTreeMap::<&str, Vec<Value>>::new();
    for (hook, version) in versions {
        let subject = &format!("{}@{}", hook.full_name(), version.version);
        let named = json!({ "version": subject, "version_id": version.id, "digest": version.digest });
        let mut payload = named.clone();
        if let (Some(payload), Some(facts)) = (payload.as_object_mut(), facts.as_object()) {
            payload.extend(facts.clone());
        }
        events::emit(transaction, Event { tenant: &hook.tenant(), kind, subject, payload }).await?;
        by_tenant.entry(&hook.tenant_id).or_default().push(named);
    }
    for (tenant_id, named) in by_tenant {
        let subject = named[0]["version"].as_str().unwrap_or_default().to_owned();
        let details = json!({ "versions": named });
        let act = Act { tenant_id, action: kind.as_str(), subject: &subject, details };
        audit::append(transaction, actor.clone(), act).await?;
    }
    Ok(())
}
