//! Errors of what the gateway calls, as callers see them.

use souk_protocol::ResolveError;
use souk_queue::{FullScope, QueueError};

use super::ApiError;
use crate::catalog::AuthError;
use crate::text::{TemplateError, TokenizerError};

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Invalid => Self::InvalidKey,
            AuthError::Unavailable(cause) => Self::Unavailable(cause),
        }
    }
}

impl From<ResolveError> for ApiError {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::NotFound(reference) => Self::ModelNotFound(reference),
            ResolveError::NotGranted(reference) => Self::AccessNeeded(reference),
            ResolveError::NotReady { reference, state } => Self::ModelNotReady { reference, state },
            ResolveError::TakenDown(reference) => Self::ModelTakenDown(reference),
            ResolveError::Unavailable(cause) => Self::Unavailable(cause),
        }
    }
}

impl From<QueueError> for ApiError {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Full(full) => match full.scope {
                FullScope::TenantQueued | FullScope::TenantInFlight => {
                    Self::RateLimited { limit: full.limit, queued: full.queued, retry_after: full.retry_after }
                }
                FullScope::PoolQueued => Self::Overloaded {
                    what: format!("{} requests wait of at most {}", full.queued, full.limit),
                    retry_after: full.retry_after,
                },
            },
            QueueError::Unavailable(cause) => Self::Unavailable(cause),
            unexpected @ (QueueError::LeaseLost { .. } | QueueError::NotDead(_)) => Self::internal(unexpected),
        }
    }
}

impl From<TokenizerError> for ApiError {
    fn from(error: TokenizerError) -> Self {
        Self::internal(error)
    }
}

impl From<TemplateError> for ApiError {
    fn from(error: TemplateError) -> Self {
        match error {
            TemplateError::Refused(_) | TemplateError::NoMarker => Self::invalid("messages", error.to_string()),
            limit if limit.is_limit() => {
                Self::invalid("messages", "The messages are too many or too long for the chat template.")
            }
            failed => Self::internal(failed),
        }
    }
}
