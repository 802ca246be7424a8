//! Which part of a list is asked for.

use crate::error::RegistryError;

/// A part of a list. Rules answer one item more than `limit` where there is one, which tells whether more follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    /// The sort key after which it begins; `None` for the start.
    pub(crate) after: Option<String>,
    /// Most items of it.
    pub(crate) limit: u64,
}

impl Slice {
    /// How many rows are to be read.
    pub(crate) fn with_one_more(&self) -> u64 {
        self.limit + 1
    }
}

/// The sort key is not one of this list.
pub(crate) fn wrong_cursor() -> RegistryError {
    RegistryError::bad_request("invalid_query", "`cursor` is not one that a page ended with")
}
