//! The parts of an upload: where they come from, what is expected of them, and what looks at them while they pass.

use async_trait::async_trait;
use bytes::Bytes;
use souk_protocol::peft::MeasuredIntake;

use crate::error::RegistryError;

/// Named parts, one after the other, each a stream of bytes.
#[async_trait]
pub(crate) trait Parts: Send {
    /// Goes on to the next part, past what is left of the one before, and answers its name; `None` at the end.
    async fn next_part(&mut self) -> Result<Option<String>, RegistryError>;

    /// The next bytes of the part; `None` at its end.
    async fn chunk(&mut self) -> Result<Option<Bytes>, RegistryError>;
}

/// A part that an artefact has beside its version number.
pub(crate) struct PartSpec {
    /// The part's name, which is the file's.
    pub(crate) name: &'static str,
    /// Whether an upload without it is refused.
    pub(crate) is_required: bool,
    /// Longest that it may be.
    pub(crate) limit_bytes: u64,
    /// Where its bytes go.
    pub(crate) goes: Goes,
}

/// Where the bytes of a part go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goes {
    /// Into memory, whole: it is small.
    IntoMemory,
    /// Into a staged blob, through the kind's scanner. A kind has at most one such part.
    IntoBlob,
}

/// Looks at the bytes of the staged part while they pass.
pub(crate) enum Scanner {
    /// Reads the header of a safetensors file and looks at every number.
    Weights(Box<MeasuredIntake>),
}

impl Scanner {
    /// Takes the next bytes; answers whether further ones are worth looking at.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> bool {
        match self {
            Self::Weights(intake) => intake.push(chunk).is_ok(),
        }
    }
}
