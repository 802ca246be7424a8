//! Scopes as the database has them.

use souk_protocol::{Scope, Scopes};

/// Scopes as the `scopes` column holds them: names with spaces between.
pub(crate) fn scopes_to_column(scopes: &Scopes) -> String {
    scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" ")
}

/// A name that this program does not know grants nothing: a newer program may have written it.
pub(crate) fn scopes_from_column(text: &str) -> Scopes {
    text.split_whitespace().filter_map(|name| name.parse::<Scope>().ok()).collect()
}
