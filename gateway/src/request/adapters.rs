//! `adapters`: several weighted adapters that act on one request together.

use utoipa::ToSchema;

use super::fields::Fields;
use super::raw::Raw;
use crate::error::ApiError;
use crate::limits::GatewayLimits;

/// Largest absolute weight. An adapter at 16 times its strength has long stopped making sense.
const MAX_WEIGHT: f64 = 16.0;

/// One of several adapters.
#[derive(Clone, Debug, PartialEq, ToSchema)]
pub struct WeightedAdapter {
    /// `owner/name`, `owner/name@1.2.0`, `owner/name@sha256:…` or `owner/name:tag`.
    pub id: String,
    /// Factor on the adapter's own strength; 0 is off, a negative weight turns it around.
    #[schema(minimum = -16, maximum = 16, required = false)]
    pub weight: f32,
}

/// Takes the list; empty if it is absent.
pub(super) fn take_adapters(fields: &mut Fields<'_>, limits: &GatewayLimits) -> Result<Vec<WeightedAdapter>, ApiError> {
    let Some(entries) = fields.list("adapters")? else { return Ok(Vec::new()) };
    if entries.len == 0 || entries.len > limits.max_adapters {
        let message = format!("'adapters' must have 1 to {} entries; given {}.", limits.max_adapters, entries.len);
        return Err(ApiError::invalid("adapters", message));
    }
    entries.map(parse_entry)
}

fn parse_entry(index: usize, entry: Raw<'_>) -> Result<WeightedAdapter, ApiError> {
    let path = format!("adapters[{index}]");
    let mut fields = Fields::within(&path, entry)?;
    let id = fields.string("id")?.ok_or_else(|| {
        let path = fields.path("id");
        ApiError::invalid(&path, format!("'{path}' is missing: the adapter's reference, owner/name."))
    })?;
    let weight = fields.number("weight", -MAX_WEIGHT..=MAX_WEIGHT)?.unwrap_or(1.0);
    fields.finish(&[])?;
    Ok(WeightedAdapter { id, weight: weight as f32 })
}
