//! The port to the registry: who is asking, and what may they call.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use souk_protocol::{AdapterName, AdapterRef, LimitTree, Principal, ResolveError, ResolvedAdapter};

/// Keys and adapters as the gateway sees them. Asked anew for every request, so that a revoked key or a take-down
/// counts at once; an implementation that caches says for how long.
#[async_trait]
pub trait Catalog: Send + Sync {
    /// Who presents this key.
    ///
    /// # Errors
    /// [`AuthError::Invalid`] for a key that is malformed, unknown, expired or revoked: the four are not told apart.
    async fn authenticate(&self, presented: &str) -> Result<Principal, AuthError>;

    /// What a reference means for this caller now.
    ///
    /// # Errors
    /// [`ResolveError::NotFound`] also where the adapter is one of another tenant that the caller's may not see;
    /// [`ResolveError::NotGranted`] where it may see it and not call it.
    async fn resolve(&self, principal: &Principal, reference: &AdapterRef) -> Result<ResolvedAdapter, ResolveError>;

    /// The chat template that a resolved version brings along; `None` where it has none. Asked once for each version.
    ///
    /// # Errors
    /// [`ResolveError::NotFound`] if it was deleted since it was resolved; [`ResolveError::Unavailable`].
    async fn chat_template(&self, adapter: &ResolvedAdapter) -> Result<Option<String>, ResolveError>;

    /// The adapters that this caller may call, in the order of their ids: all of its own, and at most `most_public` that it was
    /// granted and as many public ones of others; with a key that has a list of models, those that the list names.
    ///
    /// # Errors
    /// [`ResolveError::Unavailable`] only.
    async fn list(&self, principal: &Principal, most_public: usize) -> Result<ModelPage, ResolveError>;

    /// The entry of one adapter that this caller may see, as a list would have it.
    ///
    /// # Errors
    /// [`ResolveError::NotFound`], [`ResolveError::Unavailable`].
    async fn entry(&self, principal: &Principal, name: &AdapterName) -> Result<ModelEntry, ResolveError>;

    /// What binds this caller now, and its tenant's weight at gates. Asked once for every request, before its body, so that a limit
    /// that was lowered binds the next; an implementation that caches says for how long.
    ///
    /// # Errors
    /// [`AuthError::Invalid`] where the caller is gone; [`AuthError::Unavailable`].
    async fn limits(&self, principal: &Principal) -> Result<Arc<LimitTree>, AuthError>;

    /// For how long nobody could say who may call what, where that is longer than what is known may be believed;
    /// [`Duration::MAX`]: nobody has said it yet. Then nobody is let in.
    fn lost_for(&self) -> Option<Duration> {
        None
    }
}

/// Why a key is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The key opens nothing.
    #[error("the API key is not valid")]
    Invalid,
    /// The store of keys cannot answer. The cause is for the log, not for the caller.
    #[error("the registry cannot answer now")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What a list of models has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelPage {
    /// The adapters.
    pub entries: Vec<ModelEntry>,
    /// Path of a page with further public adapters; `None` if there are none.
    pub next: Option<String>,
}

/// An adapter in the list of models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelEntry {
    /// What callers write in `model`: `owner/name`.
    pub id: String,
    /// The tenant that published it.
    pub owner: String,
    /// When the adapter was made, in seconds since the Unix epoch.
    pub created_unix_s: u64,
}
