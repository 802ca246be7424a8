//! Chat templates of versions, for the gateway.

use souk_protocol::manifest::{MAX_TEMPLATE_BYTES, TEMPLATE_FILE};
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
    /// [`ResolveError::Unavailable`] only.
    pub async fn chat_template(&self, adapter: &ResolvedAdapter) -> Result<Option<String>, ResolveError> {
        self.read_template(adapter).await.map_err(|error| ResolveError::Unavailable(Box::new(error)))
    }

    async fn read_template(&self, adapter: &ResolvedAdapter) -> Result<Option<String>, RegistryError> {
        let found = version_files::of_content(&self.db, &adapter.digest, TEMPLATE_FILE).await?;
        let Some(file) = found else { return Ok(None) };
        let mut source = String::new();
        self.open_file(&file).await?.take(MAX_TEMPLATE_BYTES as u64).read_to_string(&mut source).await?;
        Ok(Some(source))
    }
}
