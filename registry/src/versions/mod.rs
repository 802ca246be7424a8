//! Versions: immutable once ready. How one comes to be is in [`crate::publishing`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use sea_orm::{DatabaseTransaction, DbErr};
use semver::Version;
use serde_json::{Value, json};
use souk_protocol::manifest::CARD_FILE;
use souk_protocol::{Digest, Principal};

use crate::Registry;
use crate::adapters::{existing_version, version_not_found};
use crate::audit::{self, Act, Actor};
use crate::db::{
    AdapterRow, FileRow, VersionRow, adapters, begin_write, begin_write_of, now_ms, tags, taken_down_content, tenants,
    version_files, versions, withdrawals,
};
use crate::error::{Finding, RegistryError};
use crate::events::{self, Event, Kind};
use crate::objects::{BlobReader, digest_of};
use crate::rights::Action;
use crate::slice::{Slice, wrong_cursor};
use crate::withdrawals::Withdrawn;
use crate::words::VersionState;
use crate::{blobs, db};

const MAX_REASON_CHARS: usize = 1000;

/// A version with what belongs to it.
#[derive(Clone)]
pub(crate) struct VersionDetails {
    /// `owner/name` of its adapter.
    pub(crate) adapter: String,
    pub(crate) row: VersionRow,
    /// By name.
    pub(crate) files: Vec<FileRow>,
    /// The tags that point at it, by name.
    pub(crate) tags: Vec<String>,
}

impl Registry {
    /// An adapter's versions, highest number first; a sort key is a number.
    pub(crate) async fn list_versions(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        slice: Slice,
    ) -> Result<Vec<VersionDetails>, RegistryError> {
        let adapter = self.adapter_for(principal, Action::ListVersions, owner, name).await?;
        let below = slice.after.as_deref().map(Version::parse).transpose().map_err(|_| wrong_cursor())?;
        let mut rows = versions::of_adapter(&self.db, &adapter.id).await?;
        rows.retain(|row| below.as_ref().is_none_or(|below| row.number() < *below));
        rows.sort_by_key(|row| Reverse(row.number()));
        rows.truncate(usize::try_from(slice.with_one_more()).unwrap_or(usize::MAX));
        self.version_details(&adapter, rows).await
    }

    /// One version.
    pub(crate) async fn get_version(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        number: &str,
    ) -> Result<VersionDetails, RegistryError> {
        let adapter = self.adapter_for(principal, Action::GetVersion, owner, name).await?;
        let row = existing_version(&self.db, &adapter, number).await?;
        self.one_version(&adapter, row).await
    }

    /// A file of a version that was not taken down. The model card is for all who see the adapter, other files for those who
    /// may call it.
    pub(crate) async fn version_file(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        number: &str,
        file: &str,
    ) -> Result<FileRow, RegistryError> {
        let action = if file == CARD_FILE { Action::GetVersion } else { Action::DownloadFile };
        let adapter = self.adapter_for(principal, action, owner, name).await?;
        let version = existing_version(&self.db, &adapter, number).await?;
        if version.state() == VersionState::TakenDown {
            return Err(RegistryError::TakenDown(format!("{owner}/{name}@{number}")));
        }
        let found = version_files::get(&self.db, &version.id, file).await?;
        found.ok_or_else(|| RegistryError::NotFound { what: "file", name: file.to_owned() })
    }

    /// The bytes of a file, after all of them were found to be those that were published: what is handed out carries
    /// their digest.
    pub(crate) async fn open_file(&self, file: &FileRow) -> Result<BlobReader, RegistryError> {
        self.open_whole(&file.name, &file.digest).await
    }

    /// The same for a blob that goes by the name `file`.
    pub(crate) async fn open_whole(&self, file: &str, digest: &str) -> Result<BlobReader, RegistryError> {
        let (name, shown) = (file.to_owned(), digest.to_owned());
        let digest = digest.parse::<Digest>().map_err(std::io::Error::other)?;
        match self.objects.open(&digest).await {
            Ok(bytes) => {
                if digest_of(bytes).await? == digest {
                    return Ok(self.objects.open(&digest).await?);
                }
                Err(RegistryError::ObjectCorrupted { file: name, digest: shown })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(RegistryError::ObjectMissing { file: name, digest: shown })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Yanks a version, or makes a yanked one ready again.
    pub(crate) async fn set_yanked(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        number: &str,
        is_yanked: bool,
    ) -> Result<VersionDetails, RegistryError> {
        let (state, kind, action) = if is_yanked {
            (VersionState::Yanked, Kind::VersionYanked, "yanked")
        } else {
            (VersionState::Ready, Kind::VersionUnyanked, "unyanked")
        };
        let right = if is_yanked { Action::YankVersion } else { Action::UnyankVersion };
        let adapter = self.adapter_for(principal, right, owner, name).await?;
        let transaction = begin_write_of(&self.db, &adapter.tenant()).await?;
        let mut version = existing_version(&transaction, &adapter, number).await?;
        if !matches!(version.state(), VersionState::Ready | VersionState::Yanked) {
            let name = format!("{owner}/{name}@{number}");
            return Err(RegistryError::WrongState { name, state: version.state, action });
        }
        if version.state() != state {
            versions::set_state(&transaction, &version.id, state, None).await?;
            adapters::relist(&transaction, [adapter.id.as_str()]).await?;
            version.state = state.as_str().to_owned();
            note(&transaction, principal, kind, &[(&adapter, &version)], json!({})).await?;
        }
        transaction.commit().await?;
        self.one_version(&adapter, version).await
    }

    /// Takes any tenant's version down, also one that its owner deleted, for a reason of 1 to 1,000 characters. It is
    /// the content that is taken down: with it goes every version that has the same weights, whoever's, and nobody can
    /// publish them again.
    pub(crate) async fn take_down(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        number: &str,
        reason: String,
    ) -> Result<VersionDetails, RegistryError> {
        let adapter = self.adapter_for(principal, Action::TakeDownVersion, owner, name).await?;
        let num_chars = reason.chars().count();
        let finding = Finding::field("reason", format!("1 to {MAX_REASON_CHARS} characters, given {num_chars}"));
        let is_good = (1..=MAX_REASON_CHARS).contains(&num_chars);
        RegistryError::unless_valid((!is_good).then_some(finding).into_iter().collect())?;
        let transaction = begin_write(&self.db).await?;
        let found = versions::numbered_ever(&transaction, &adapter.id, number).await?;
        let mut version = found.ok_or_else(|| version_not_found(&adapter, number))?;
        let content: Vec<String> =
            [Some(version.digest.clone()), version.weights_digest.clone()].into_iter().flatten().collect();
        // Who publishes the same content meanwhile waits for this row, and is then refused.
        if let Some(weights) = &version.weights_digest {
            db::blobs::lock(&transaction, weights).await?;
        }
        let row = |digest: &String| taken_down_content::Model {
            digest: digest.clone(),
            version_id: version.id.clone(),
            reason: reason.clone(),
            by_key: Some(principal.key.to_string()),
            taken_down_at_ms: now_ms(),
        };
        taken_down_content::insert_all(&transaction, content.iter().map(row).collect()).await?;
        let alike = versions::serving_with_content(&transaction, &content).await?;
        let num_alike = alike.iter().filter(|other| other.id != version.id).count();
        let ids = alike.iter().map(|other| other.id.as_str()).chain([version.id.as_str()]);
        versions::take_down(&transaction, ids, &reason).await?;
        let adapters_alike = alike.iter().map(|other| other.adapter_id.as_str()).chain([adapter.id.as_str()]);
        adapters::relist(&transaction, adapters_alike).await?;
        let digests = alike.iter().map(|other| &other.digest).chain([&version.digest]);
        let digests: BTreeSet<Digest> = digests.filter_map(|digest| digest.parse().ok()).collect();
        let withdrawn: Vec<_> = digests.into_iter().map(Withdrawn::Version).collect();
        withdrawals::insert_all(&transaction, &self.owner, withdrawn.iter().map(Withdrawn::to_row)).await?;
        let of_alike = adapters::by_ids(&transaction, alike.iter().map(|other| other.adapter_id.as_str())).await?;
        let others = alike.iter().filter(|other| other.id != version.id).filter_map(|other| {
            let of_other = of_alike.iter().find(|adapter| adapter.id == other.adapter_id)?;
            Some((of_other, other))
        });
        let all: Vec<_> = std::iter::once((&adapter, &version)).chain(others).collect();
        note(&transaction, principal, Kind::VersionTakenDown, &all, json!({ "reason": reason })).await?;
        transaction.commit().await?;
        self.withdrawals.tell(withdrawn);
        tracing::warn!(
            adapter.owner = owner,
            adapter.name = name,
            version.number = number,
            version.digest = version.digest,
            by.key = %principal.key,
            num_alike,
            reason,
            "Took {owner}/{name}@{number} down, and {num_alike} other versions of the same content"
        );
        version.state = VersionState::TakenDown.as_str().to_owned();
        version.state_reason = Some(reason);
        self.one_version(&adapter, version).await
    }

    /// Deletes a version with its tags, and the bytes that nothing else refers to. Its number can never be used again.
    /// Of one that was taken down the bytes go; that it was, and why, stays.
    pub(crate) async fn delete_version(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        number: &str,
    ) -> Result<(), RegistryError> {
        let adapter = self.adapter_for(principal, Action::DeleteVersion, owner, name).await?;
        let transaction = begin_write_of(&self.db, &adapter.tenant()).await?;
        let version = existing_version(&transaction, &adapter, number).await?;
        tags::delete_of_version(&transaction, &version.id).await?;
        let freed = version_files::delete_of_version(&transaction, &version.id).await?;
        tenants::add_stored(&transaction, &adapter.tenant(), -freed.size_bytes).await?;
        if version.state() != VersionState::TakenDown {
            versions::set_state(&transaction, &version.id, VersionState::Deleted, None).await?;
        }
        adapters::relist(&transaction, [adapter.id.as_str()]).await?;
        let digests = freed.digests;
        db::blobs::release(&transaction, &digests).await?;
        note(&transaction, principal, Kind::VersionDeleted, &[(&adapter, &version)], json!({})).await?;
        transaction.commit().await?;
        tracing::info!(
            adapter.owner = owner,
            adapter.name = name,
            version.number = number,
            "Deleted {owner}/{name}@{number}"
        );
        blobs::remove_released(&self.db, &*self.objects, digests).await;
        Ok(())
    }

    /// What belongs to versions of one adapter, in the order of `rows`.
    async fn version_details(
        &self,
        adapter: &AdapterRow,
        rows: Vec<VersionRow>,
    ) -> Result<Vec<VersionDetails>, RegistryError> {
        let ids = || rows.iter().map(|row| row.id.as_str());
        let mut files_of = HashMap::<String, Vec<FileRow>>::new();
        for file in version_files::of_versions(&self.db, ids()).await? {
            files_of.entry(file.version_id.clone()).or_default().push(file);
        }
        let mut tags_of = HashMap::<String, Vec<String>>::new();
        for tag in tags::of_versions(&self.db, ids()).await? {
            tags_of.entry(tag.version_id).or_default().push(tag.tag);
        }
        let details = |row: VersionRow| {
            let (files, tags) = (files_of.remove(&row.id), tags_of.remove(&row.id));
            VersionDetails::new(adapter, row, files.unwrap_or_default(), tags.unwrap_or_default())
        };
        Ok(rows.into_iter().map(details).collect())
    }

    async fn one_version(&self, adapter: &AdapterRow, row: VersionRow) -> Result<VersionDetails, RegistryError> {
        let mut details = self.version_details(adapter, vec![row]).await?;
        Ok(details.pop().expect("one row has one set of details"))
    }
}

/// Tells each tenant what became of its versions: outside an event for each, with `facts`, and one entry in its chain.
pub(crate) async fn note(
    transaction: &DatabaseTransaction,
    principal: &Principal,
    kind: Kind,
    versions: &[(&AdapterRow, &VersionRow)],
    facts: Value,
) -> Result<(), DbErr> {
    let mut by_tenant = BTreeMap::<&str, Vec<Value>>::new();
    for (adapter, version) in versions {
        let subject = &version_name(adapter, version);
        let named = json!({ "version": subject, "version_id": version.id, "digest": version.digest });
        let mut payload = named.clone();
        if let (Some(payload), Some(facts)) = (payload.as_object_mut(), facts.as_object()) {
            payload.extend(facts.clone());
        }
        let tenant_id = adapter.tenant_id.as_str();
        events::emit(transaction, Event { tenant: &adapter.tenant(), kind, subject, payload }).await?;
        by_tenant.entry(tenant_id).or_default().push(named);
    }
    for (tenant_id, named) in by_tenant {
        let subject = named[0]["version"].as_str().unwrap_or_default().to_owned();
        let details = json!({ "versions": named });
        let act = Act { tenant_id, action: kind.as_str(), subject: &subject, details };
        audit::append(transaction, Actor::of(principal), act).await?;
    }
    Ok(())
}

fn version_name(adapter: &AdapterRow, version: &VersionRow) -> String {
    format!("{}/{}@{}", adapter.owner, adapter.name, version.version)
}

impl VersionDetails {
    pub(crate) fn new(adapter: &AdapterRow, row: VersionRow, mut files: Vec<FileRow>, mut tags: Vec<String>) -> Self {
        files.sort_by(|a, b| a.name.cmp(&b.name));
        tags.sort();
        Self { adapter: format!("{}/{}", adapter.owner, adapter.name), row, files, tags }
    }
}
