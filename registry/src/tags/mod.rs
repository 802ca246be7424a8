//! Tags: mutable names for versions, such as `prod`.

use std::collections::HashMap;

use serde_json::json;
use souk_protocol::Principal;
use souk_protocol::reference::check_name_part;

use crate::Registry;
use crate::adapters::existing_version;
use crate::audit::{self, Act, Actor};
use crate::db::{AdapterRow, TagRow, VersionRow, begin_write_of, now_ms, tags, versions};
use crate::error::{Finding, RegistryError};
use crate::rights::Action;
use crate::slice::Slice;
use crate::words::VersionState;

/// A tag and the version that it points at.
pub(crate) struct TagDetails {
    /// `owner/name` of the adapter.
    pub(crate) adapter: String,
    pub(crate) row: TagRow,
    pub(crate) version: VersionRow,
}

impl Registry {
    /// An adapter's tags, by name.
    pub(crate) async fn list_tags(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        slice: Slice,
    ) -> Result<Vec<TagDetails>, RegistryError> {
        let adapter = self.adapter_for(principal, Action::ListTags, owner, name).await?;
        let limit = slice.with_one_more();
        let rows = tags::list(&self.db, &adapter.id, slice.after, limit).await?;
        let found = versions::by_ids(&self.db, rows.iter().map(|row| row.version_id.as_str())).await?;
        let found: HashMap<_, _> = found.into_iter().map(|version| (version.id.clone(), version)).collect();
        // A version that was deleted between the two queries took its tags with it.
        let details = |row: TagRow| {
            let version = found.get(&row.version_id)?.clone();
            Some(TagDetails::new(&adapter, row, version))
        };
        Ok(rows.into_iter().filter_map(details).collect())
    }

    /// Where a tag points.
    pub(crate) async fn get_tag(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        tag: &str,
    ) -> Result<TagDetails, RegistryError> {
        let adapter = self.adapter_for(principal, Action::GetTag, owner, name).await?;
        let not_found = || tag_not_found(&adapter, tag);
        let row = tags::get(&self.db, &adapter.id, tag).await?.ok_or_else(not_found)?;
        let version = versions::by_ids(&self.db, [row.version_id.as_str()]).await?.pop().ok_or_else(not_found)?;
        Ok(TagDetails::new(&adapter, row, version))
    }

    /// Points a tag at a ready version, making it if it does not exist.
    pub(crate) async fn put_tag(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        tag: &str,
        number: &str,
    ) -> Result<TagDetails, RegistryError> {
        let adapter = self.adapter_for(principal, Action::PutTag, owner, name).await?;
        let finding = check_name_part("tag", tag).err().map(|error| Finding::field("tag", error.to_string()));
        RegistryError::unless_valid(finding.into_iter().collect())?;
        let transaction = begin_write_of(&self.db, &adapter.tenant()).await?;
        let version = existing_version(&transaction, &adapter, number).await?;
        if version.state() != VersionState::Ready {
            let name = format!("{owner}/{name}@{number}");
            return Err(RegistryError::WrongState { name, state: version.state, action: "tagged" });
        }
        let row = TagRow {
            adapter_id: adapter.id.clone(),
            tag: tag.to_owned(),
            version_id: version.id.clone(),
            updated_at_ms: now_ms(),
        };
        if tags::get(&transaction, &adapter.id, tag).await?.is_none() {
            let given = tags::count_of(&transaction, &adapter.id).await?;
            RegistryError::unless_fewer(given, self.config.settings.max_tags_per_adapter, |given, limit| {
                let (of, setting) = (format!("{owner}/{name}"), "registry.max_tags_per_adapter");
                RegistryError::TooMany { what: "tags", of, setting, limit, given, remedy: "delete one first" }
            })?;
        }
        tags::put(&transaction, &row).await?;
        let details = json!({ "version": version.version, "version_id": version.id });
        let act = Act {
            tenant_id: &adapter.tenant_id,
            action: "tag.put",
            subject: &format!("{owner}/{name}:{tag}"),
            details,
        };
        audit::append(&transaction, Actor::of(principal), act).await?;
        transaction.commit().await?;
        Ok(TagDetails::new(&adapter, row, version))
    }

    /// Deletes a tag. The version that it pointed at stays; the tag's name may be used again.
    pub(crate) async fn delete_tag(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        tag: &str,
    ) -> Result<(), RegistryError> {
        let adapter = self.adapter_for(principal, Action::DeleteTag, owner, name).await?;
        let transaction = begin_write_of(&self.db, &adapter.tenant()).await?;
        if !tags::delete(&transaction, &adapter.id, tag).await? {
            return Err(tag_not_found(&adapter, tag));
        }
        let subject = &format!("{owner}/{name}:{tag}");
        let act = Act { tenant_id: &adapter.tenant_id, action: "tag.deleted", subject, details: json!({}) };
        audit::append(&transaction, Actor::of(principal), act).await?;
        transaction.commit().await?;
        Ok(())
    }
}

impl TagDetails {
    fn new(adapter: &AdapterRow, row: TagRow, version: VersionRow) -> Self {
        Self { adapter: format!("{}/{}", adapter.owner, adapter.name), row, version }
    }
}

fn tag_not_found(adapter: &AdapterRow, tag: &str) -> RegistryError {
    RegistryError::NotFound { what: "tag", name: format!("{}/{}:{tag}", adapter.owner, adapter.name) }
}
