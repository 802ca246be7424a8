//! How a hook fails, and what that means for the request.

use souk_protocol::Outcome;

use crate::error::ApiError;

/// A hook did not do what it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HookFailure {
    /// The host's own word for how, which figures and the hook's owner have.
    pub(crate) code: &'static str,
    /// What the caller is told, in the host's own words.
    pub(crate) reason: String,
    /// What the hook said of it, for its owner.
    pub(crate) detail: Option<String>,
    /// Why it could not be called, where the hook has no part in that: then the same request may come again.
    pub(crate) want: Option<Want>,
}

/// What there was not of to call a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Of the caller's share of what there is to run hooks.
    Share,
    /// Of room for anybody's, or what the host needs of others.
    Room,
}

/// A hook ends its request.
#[derive(Debug)]
pub(crate) struct HookEnd {
    /// What the caller is told.
    pub(crate) error: Box<ApiError>,
    /// How jobs count that had begun.
    pub(crate) outcome: Outcome,
}

impl HookFailure {
    /// A failure with a word and a reason.
    pub(crate) fn new(code: &'static str, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), detail: None, want: None }
    }
}
