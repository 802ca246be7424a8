//! The chat templates of versions, as they are found and remembered.
//!
//! A template belongs to the version's digest, so one never grows old; the cache only keeps them from filling the memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use souk_protocol::{Digest, ResolvedAdapter};

use crate::catalog::Catalog;
use crate::error::ApiError;
use crate::served::ServedBase;
use crate::version_template::VersionTemplate;

/// Most versions whose template, or the lack of one, is remembered: at most 64 KiB each.
const MAX_REMEMBERED: usize = 256;

/// Templates by the digest of their version.
#[derive(Default)]
pub(crate) struct VersionTemplates {
    /// Locked for a look-up, never across an await.
    remembered: Mutex<Remembered>,
}

#[derive(Default)]
struct Remembered {
    templates: HashMap<Digest, (Option<Arc<VersionTemplate>>, u64)>,
    num_uses: u64,
}

impl VersionTemplates {
    /// The template by which these adapters are talked to: that of the only one, if it has one. Several together are no
    /// version that anybody trained a template for, so they take the base's.
    ///
    /// # Errors
    /// The registry cannot answer.
    pub(crate) async fn of(
        &self,
        adapters: &[(ResolvedAdapter, f32)],
        base: &ServedBase,
        catalog: &dyn Catalog,
    ) -> Result<Option<Arc<VersionTemplate>>, ApiError> {
        let [(adapter, _)] = adapters else { return Ok(None) };
        if let Some(known) = self.lock().get(&adapter.digest) {
            return Ok(known);
        }
        let version = || format!("{}@{}", adapter.name, adapter.version);
        let source = catalog.chat_template(adapter).await?;
        let template = source.map(|source| Arc::new(VersionTemplate::new(version(), source, base.marks())));
        self.lock().insert(adapter.digest, template.clone());
        Ok(template)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remembered {
    fn get(&mut self, version: &Digest) -> Option<Option<Arc<VersionTemplate>>> {
        self.num_uses += 1;
        let (template, last_use) = self.templates.get_mut(version)?;
        *last_use = self.num_uses;
        Some(template.clone())
    }

    fn insert(&mut self, version: Digest, template: Option<Arc<VersionTemplate>>) {
        if self.templates.len() >= MAX_REMEMBERED {
            let oldest = self.templates.iter().min_by_key(|(_, (_, last_use))| *last_use).map(|(digest, _)| *digest);
            oldest.map(|digest| self.templates.remove(&digest));
        }
        self.num_uses += 1;
        self.templates.insert(version, (template, self.num_uses));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_least_lately_is_forgotten_first() {
        let digest = |number: usize| Digest::of(&number.to_le_bytes());
        let mut remembered = Remembered::default();
        (0..MAX_REMEMBERED).for_each(|number| remembered.insert(digest(number), None));
        assert!(remembered.get(&digest(0)).is_some());
        remembered.insert(digest(MAX_REMEMBERED), None);
        assert_eq!(remembered.templates.len(), MAX_REMEMBERED);
        assert!(remembered.get(&digest(0)).is_some() && remembered.get(&digest(1)).is_none());
    }
}
