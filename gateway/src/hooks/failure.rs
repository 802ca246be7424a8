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
    /// Whether it was for want of room, or of the host, and no fault of the hook's: then the same request may come again.
    pub(crate) is_of_host: bool,
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
        Self { code, reason: reason.into(), detail: None, is_of_host: false }
    }
}
