//! The gateway's way to hooks when the registry is in the same process: function calls.

use async_trait::async_trait;
use bytes::Bytes;
use souk_gateway::{HookSource, HookSourceError};
use souk_protocol::Digest;
use souk_protocol::hooks::HookLine;
use souk_registry::{Registry, RegistryError};

/// The hooks of a registry in the same process.
pub(crate) struct InProcessHooks(pub(crate) Registry);

fn unavailable(error: RegistryError) -> HookSourceError {
    HookSourceError::Unavailable(error.into())
}

#[async_trait]
impl HookSource for InProcessHooks {
    async fn artifact(&self, digest: &Digest, engine: &str) -> Result<Option<Bytes>, HookSourceError> {
        self.0.hook_artifact(digest, engine).await.map_err(unavailable)
    }

    async fn component(&self, digest: &Digest) -> Result<Bytes, HookSourceError> {
        self.0.hook_component(digest).await.map_err(unavailable)?.ok_or(HookSourceError::NotFound)
    }

    async fn write_lines(&self, lines: Vec<HookLine>) -> Result<(), HookSourceError> {
        self.0.write_hook_lines(&lines).await.map_err(unavailable)
    }
}
