//! A token that may be chosen, and why there may be none.

use std::cmp::Ordering;

use souk_protocol::TokenId;

/// Why nothing can be chosen from a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRow {
    /// It holds NaN or infinity.
    #[error("a logit is not finite")]
    NotFinite,
    /// A constraint allows no token of the vocabulary.
    #[error("no token is allowed")]
    NothingAllowed,
}

/// A token that may be chosen, with its logit or its weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) id: TokenId,
    pub(super) value: f32,
}

impl Candidate {
    /// Larger values first; among equal ones, as 0 and -0 are, the lower id. A row that has been scanned holds no NaN.
    pub(super) fn likelier_first(a: &Self, b: &Self) -> Ordering {
        b.value.partial_cmp(&a.value).unwrap_or(Ordering::Equal).then(a.id.cmp(&b.id))
    }
}
