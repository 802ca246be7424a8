//! Rows of usage that gateways write, and what they sum up to.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use souk_protocol::RequestId;
use souk_protocol::internal::{GetRepeated, GetTotals, MAX_TOTALS, MAX_WRITTEN, MAX_WRITTEN_BYTES, Totals, WriteUsage};

use crate::Registry;
use crate::error::RegistryError;
use crate::http::Body;
use crate::http::admit::unreadable;

/// Writes requests, each once however often it is sent.
pub(super) async fn write(
    State(registry): State<Registry>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Totals>, RegistryError> {
    let body = body.map_err(|rejection| match rejection {
        BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
            RegistryError::TooLarge { what: "the body".to_owned(), limit_bytes: MAX_WRITTEN_BYTES as u64 }
        }
        rejection => unreadable(rejection),
    })?;
    let asked: WriteUsage = serde_json::from_slice(&body)
        .map_err(|error| RegistryError::bad_request("invalid_body", format!("it is no list of requests: {error}")))?;
    at_most("requests", asked.requests.len(), MAX_WRITTEN)?;
    Ok(Json(Totals { totals: registry.write_usage(&asked.requests).await? }))
}

/// What rows sum up to now.
pub(super) async fn totals(
    State(registry): State<Registry>,
    Body(asked): Body<GetTotals>,
) -> Result<Json<Totals>, RegistryError> {
    at_most("keys", asked.keys.len(), MAX_TOTALS)?;
    Ok(Json(Totals { totals: registry.usage_totals(&asked.keys).await? }))
}

/// Which request had an `Idempotency-Key`.
pub(super) async fn repeated(
    State(registry): State<Registry>,
    Body(asked): Body<GetRepeated>,
) -> Result<Json<Option<RequestId>>, RegistryError> {
    Ok(Json(registry.repeated_request(&asked.tenant, asked.repeat).await?))
}

fn at_most(field: &str, given: usize, limit: usize) -> Result<(), RegistryError> {
    if given <= limit {
        return Ok(());
    }
    Err(RegistryError::bad_request("invalid_body", format!("`{field}` has at most {limit} items, given {given}")))
}
