//! What travels from the gateway through the queue to a node.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{ConstraintSpec, Digest, JobId, PoolId, SamplingParams, TenantId, TokenId};

/// One adapter and how strongly it acts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdapterUse {
    /// Digest of the version's manifest.
    pub digest: Digest,
    /// Factor on the adapter's own scale; 1 for an ordinary request.
    pub weight: f32,
    /// What its files are fetched with; `None` where whoever runs the job reads them without.
    #[serde(default)]
    pub grant: Option<FileGrant>,
}

/// What a registry signs so that a node may fetch the files of one version, for a quarter of an hour at most. It says
/// nothing of who asked for the version. Never shown: whoever has it and a node's token has the files.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FileGrant(Arc<str>);

/// A version, and what its files are fetched with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fetchable {
    /// Digest of the version's manifest.
    pub digest: Digest,
    /// See [`AdapterUse::grant`].
    #[serde(default)]
    pub grant: Option<FileGrant>,
}

impl FileGrant {
    /// A grant as it was signed. Any text is one; only a registry can tell whether it is good.
    #[must_use]
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text, to be presented.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for FileGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileGrant").finish_non_exhaustive()
    }
}

impl From<&AdapterUse> for Fetchable {
    fn from(used: &AdapterUse) -> Self {
        Self { digest: used.digest, grant: used.grant.clone() }
    }
}

/// One generation: token ids in, token ids out. Text exists only in the gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GenerateJob {
    /// Identity; also the key that events and usage are booked under.
    pub id: JobId,
    /// Whose turn this job takes in the fair queue.
    pub tenant: TenantId,
    /// The base model that must run it.
    pub pool: PoolId,
    /// The prompt. Never empty.
    pub prompt: Vec<TokenId>,
    /// Tokens of the answer that the client already has: generation goes on after them. Empty on the first attempt.
    pub resume: Vec<TokenId>,
    /// Adapters that act on this job, in order of application. Empty means the base model.
    pub adapters: Vec<AdapterUse>,
    /// How the next token is chosen.
    pub sampling: SamplingParams,
    /// What the answer must look like; `None` leaves it free. Shared between the jobs of one request.
    pub constraint: Option<Arc<ConstraintSpec>>,
    /// At most this many tokens are generated, `resume` included. 0 only scores the prompt.
    pub max_tokens: u32,
    /// Generation ends at one of these tokens. Empty with `ignore_eos`.
    pub eos_tokens: Vec<TokenId>,
    /// How many alternatives to report for each generated token; `None` reports no logprobs at all.
    pub logprobs: Option<u8>,
    /// How many alternatives to report for each prompt token; `None` skips the work.
    pub prompt_logprobs: Option<u8>,
    /// For how much longer the answer is wanted, from the moment at which the job is handed over; `None`: for ever.
    /// Each who hands the job on says anew what is left (see [`deadline`](crate::deadline)).
    pub time_left: Option<Duration>,
}

impl GenerateJob {
    /// Tokens that the job may come to occupy in the KV cache.
    #[must_use]
    pub fn max_context_tokens(&self) -> usize {
        self.prompt.len() + self.max_tokens as usize
    }
}
