//! The port to where hooks are kept.

use async_trait::async_trait;
use axum::body::Bytes;
use souk_protocol::Digest;
use souk_protocol::hooks::HookLine;

/// Components by their digest, and what their owners may read of them.
#[async_trait]
pub trait HookSource: Send + Sync {
    /// A component that was compiled for an engine, sealed; `None` if there is none for that engine.
    ///
    /// # Errors
    /// [`HookSourceError`].
    async fn artifact(&self, digest: &Digest, engine: &str) -> Result<Option<Bytes>, HookSourceError>;

    /// A component as it was published.
    ///
    /// # Errors
    /// [`HookSourceError`].
    async fn component(&self, digest: &Digest) -> Result<Bytes, HookSourceError>;

    /// Writes what hooks said and how they failed.
    ///
    /// # Errors
    /// [`HookSourceError::Unavailable`]; then the lines are lost.
    async fn write_lines(&self, lines: Vec<HookLine>) -> Result<(), HookSourceError>;
}

/// Why a component cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum HookSourceError {
    /// There is none of this digest, or none any more.
    #[error("there is no such hook any more")]
    NotFound,
    /// Where it is kept cannot be reached. The cause is for the log.
    #[error("the hook cannot be fetched at the moment")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}
