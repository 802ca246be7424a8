//! What is loaded into each server.

use std::borrow::Cow;

/// Functions that are loaded into each server.
#[derive(Clone, Debug)]
pub struct Library {
    /// Its text, whose first line has its name, and the name its version.
    pub code: Cow<'static, str>,
}
