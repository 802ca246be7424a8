//! Chat templates of versions, for the gateway.

use souk_protocol::manifest::{CONFIG_FILE, MAX_TEMPLATE_BYTES, TEMPLATE_FILE};
use souk_protocol::{ResolveError, ResolvedAdapter};
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
        let source = self.read_template(adapter).await.map_err(|error| ResolveError::Unavailable(Box::new(error)))?;
        source.ok_or_else(|| ResolveError::NotFound(format!("{}@{}", adapter.name, adapter.version)))
    }

    /// `None` if there is no version with this content.
    async fn read_template(&self, adapter: &ResolvedAdapter) -> Result<Option<Option<String>>, RegistryError> {
        let file_named = |name| version_files::of_content(&self.db, &adapter.digest, name);
        let Some(file) = file_named(TEMPLATE_FILE).await? else {
            // Every version has its configuration.
            return Ok(file_named(CONFIG_FILE).await?.map(|_| None));
        };
        let mut source = String::new();
        self.open_file(&file).await?.take(MAX_TEMPLATE_BYTES as u64).read_to_string(&mut source).await?;
        Ok(Some(Some(source)))
    }
}
