//! What a caller may do.

use souk_protocol::{Principal, Scope};

use crate::error::RegistryError;

/// Ends a call unless the caller's key carries `scope`.
pub(crate) fn require(principal: &Principal, scope: Scope) -> Result<(), RegistryError> {
    if principal.may(scope) { Ok(()) } else { Err(RegistryError::MissingScope(scope)) }
}
