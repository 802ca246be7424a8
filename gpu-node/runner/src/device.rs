//! An adapter in a device's memory, as the engine and a runner hand it to one another.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use souk_protocol::{Digest, TokenId};

/// An adapter ready to run on one device. What lies there is opaque but to that device's runner.
pub struct DeviceAdapter {
    /// Digest of the version's manifest.
    pub digest: Digest,
    /// Bytes that it occupies on the device; what the budgets count.
    pub size_bytes: usize,
    /// It acts from the last occurrence of these tokens in the prompt on, from the first of them; empty: it always
    /// acts.
    pub invocation_tokens: Vec<TokenId>,
    slabs: Arc<dyn Any + Send + Sync>,
}

impl DeviceAdapter {
    /// An adapter whose numbers are `slabs`, of the type that the device's runner reads.
    #[must_use]
    pub fn new(
        digest: Digest,
        size_bytes: usize,
        invocation_tokens: Vec<TokenId>,
        slabs: Arc<dyn Any + Send + Sync>,
    ) -> Self {
        Self { digest, size_bytes, invocation_tokens, slabs }
    }

    /// The numbers, if they are of this type; `None` where the adapter lies on a device of another kind.
    #[must_use]
    pub fn slabs<T: Any>(&self) -> Option<&T> {
        self.slabs.downcast_ref()
    }

    /// From which position of a prompt on it acts; `None` if it does not act at all. As in PEFT, where a prompt invokes
    /// it more than once the last time counts, and what is generated invokes nothing.
    #[must_use]
    pub fn acts_from(&self, prompt: &[TokenId]) -> Option<usize> {
        let tokens = &self.invocation_tokens[..];
        if tokens.is_empty() { Some(0) } else { prompt.windows(tokens.len()).rposition(|window| window == tokens) }
    }
}

impl fmt::Debug for DeviceAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceAdapter")
            .field("digest", &self.digest)
            .field("size_bytes", &self.size_bytes)
            .finish_non_exhaustive()
    }
}
