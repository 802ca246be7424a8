//! What unit tests and whole-API tests have in common.

pub(crate) mod json;
pub(crate) mod tiny;
