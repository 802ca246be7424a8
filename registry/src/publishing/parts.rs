//! Where the parts of an upload come from.

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::RegistryError;

/// Named parts, one after the other, each a stream of bytes.
#[async_trait]
pub(crate) trait Parts: Send {
    /// Goes on to the next part, past what is left of the one before, and answers its name; `None` at the end.
    async fn next_part(&mut self) -> Result<Option<String>, RegistryError>;

    /// The next bytes of the part; `None` at its end.
    async fn chunk(&mut self) -> Result<Option<Bytes>, RegistryError>;
}
