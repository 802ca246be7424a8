use std::collections::BTreeMap;

use axum::Json;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::UploadPath;
use crate::error::RegistryError;
use crate::http::{Body, Caller, PathOf, Problems, Serving};
use crate::publishing::{PartRequest, SignedPart};

/// Parts that are to be sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddressParts {
    /// 1 to 100 of them.
    #[schema(min_items = 1, max_items = 100)]
    parts: Vec<PartToSend>,
}

/// A part that is to be sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PartToSend {
    /// From 1 to the upload's `num_parts`.
    #[schema(example = 1, minimum = 1)]
    number: u64,
    /// SHA-256 of its bytes: `sha256:` and 64 hex digits.
    #[schema(example = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")]
    digest: String,
}

/// Where parts are to be sent.
#[derive(Serialize, ToSchema)]
pub(crate) struct PartAddresses {
    /// In the order in which they were asked for.
    data: Vec<PartAddress>,
}

/// Where a part is to be sent, by PUT. Whoever has it can send the part, and nothing else, for an hour.
#[derive(Serialize, ToSchema)]
pub(crate) struct PartAddress {
    /// The part's number.
    #[schema(example = 1)]
    number: u64,
    /// The length that the part must have.
    #[schema(example = 8_388_608)]
    size_bytes: u64,
    /// The whole address, signed. The key is not to be sent there.
    #[schema(
        example = "https://bucket.s3.eu-central-1.amazonaws.com/staging/upl_0193d5a1.direct?partNumber=1&X-Amz-Signature=4a5b6c"
    )]
    url: String,
    /// Headers that the request must have, by name.
    #[schema(example = json!({"content-length": "8388608", "x-amz-checksum-sha256": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}))]
    headers: BTreeMap<String, String>,
}

/// Where parts of an upload are to be sent. Each address takes a part of exactly that length and SHA-256, once or again.
///
/// Scope: `adapters:write`. It makes nothing, and may be called as often as is needed. Once all bytes are one object it
/// answers 409 `parts_taken`.
#[utoipa::path(
    post, path = "/adapters/{owner}/{name}/uploads/{upload}/parts", tag = "uploads",
    params(UploadPath),
    request_body = AddressParts,
    responses((status = 200, body = PartAddresses, description = "The addresses"), Problems)
)]
pub(crate) async fn address_parts(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<UploadPath>,
    Body(request): Body<AddressParts>,
) -> Result<Response, RegistryError> {
    let asked = request.parts.into_iter().map(|PartToSend { number, digest }| PartRequest { number, digest });
    let name = (path.owner.as_str(), path.name.as_str());
    let signed = registry.direct_addresses(&caller.0, name, &path.upload, asked.collect()).await?;
    let data = signed.into_iter().map(PartAddress::from).collect();
    Ok(([(CACHE_CONTROL, "no-store")], Json(PartAddresses { data })).into_response())
}

impl From<SignedPart> for PartAddress {
    fn from(SignedPart { address, size_bytes }: SignedPart) -> Self {
        let headers = address.headers.into_iter().collect();
        Self { number: address.number, size_bytes, url: address.url, headers }
    }
}
