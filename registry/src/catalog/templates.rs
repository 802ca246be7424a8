//! Chat templates of versions, for the gateway.

use souk_protocol::manifest::{CONFIG_FILE, MAX_TEMPLATE_BYTES, TEMPLATE_FILE};
use souk_protocol::{Digest, ResolveError, ResolvedAdapter};
use tokio::io::AsyncReadExt as _;

use crate::Registry;
use crate::db::version_files;
use crate::error::RegistryError;

impl Registry {
    /// The chat template that a resolved version brought along; `None` where it has none. The version's digest covers
    /// it, so the answer never changes.
    ///
    /// # Errors
    /// [`ResolveError::NotFound`] if the version was deleted since it was resolved: what it had is not known then, and
    /// would be remembered wrongly if the same content is published again. [`ResolveError::Unavailable`].
    pub async fn chat_template(&self, adapter: &ResolvedAdapter) -> Result<Option<String>, ResolveError> {
        let source =
            self.template_of(&adapter.digest).await.map_err(|error| ResolveError::Unavailable(Box::new(error)))?;
        source.ok_or_else(|| ResolveError::NotFound(format!("{}@{}", adapter.name, adapter.version)))
    }

    /// The chat template of a version by its digest; `None` if there is no version with this content.
    pub(crate) async fn template_of(&self, version: &Digest) -> Result<Option<Option<String>>, RegistryError> {
        let file_named = |name| version_files::of_content(&self.db, version, name);
        let Some(file) = file_named(TEMPLATE_FILE).await? else {
            // Every version has its configuration.
            return Ok(file_named(CONFIG_FILE).await?.map(|_| None));
        };
        let mut source = String::new();
        self.open_file(&file).await?.take(MAX_TEMPLATE_BYTES as u64).read_to_string(&mut source).await?;
        Ok(Some(Some(source)))
    }
}
