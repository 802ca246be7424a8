//! Files of adapters by digest, for nodes that keep what they fetch under it and compare.

use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION, RANGE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use souk_protocol::Digest;
use souk_protocol::internal::GRANT_HEADER;
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use crate::Registry;
use crate::error::RegistryError;
use crate::objects::BlobReader;

/// Bytes read from the store at a time.
const READ_BYTES: usize = 128 * 1024;

/// How long an address is good for at which a file can be read. It is used at once, and again by who goes on with a
/// transfer that broke off.
const ADDRESS_GOOD_FOR: Duration = Duration::from_secs(120);

/// How a file is asked for.
#[derive(Deserialize)]
pub(super) struct Asked {
    /// There: where the object store can be read with an address alone, that is answered and not the bytes.
    direct: Option<String>,
}

/// A file of the version that the grant is for, streamed as it is stored: who asked compares it with its digest.
/// `Range: bytes=N-` answers what follows N bytes, for a transfer that broke off; other ranges are passed over, as RFC 9110
/// lets a server do.
pub(super) async fn file(
    State(registry): State<Registry>,
    Path(digest): Path<String>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<Response, RegistryError> {
    let not_found = || RegistryError::NotFound { what: "file", name: digest.chars().take(80).collect() };
    let digest = digest.parse::<Digest>().map_err(|_| not_found())?;
    let grant = headers.get(GRANT_HEADER).and_then(|given| given.to_str().ok());
    registry.check_grant(grant, &digest).await?;
    let e_tag = format!("\"{digest}\"");
    if headers.get(IF_NONE_MATCH).and_then(|given| given.to_str().ok()) == Some(&e_tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, e_tag)]).into_response());
    }
    if asked.direct.is_some()
        && let Some(address) = registry.objects.address(&digest, ADDRESS_GOOD_FOR).await?
    {
        let fixed = [(LOCATION, address), (CACHE_CONTROL, "no-store".to_owned())];
        return Ok((StatusCode::TEMPORARY_REDIRECT, fixed).into_response());
    }
    let mut bytes = match registry.objects.open(&digest).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(not_found()),
        Err(error) => return Err(error.into()),
    };
    let offset = headers.get(RANGE).and_then(begins_at).unwrap_or(0);
    let fixed = [
        (ETAG, e_tag),
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (ACCEPT_RANGES, "bytes".to_owned()),
        (CACHE_CONTROL, "private, immutable".to_owned()),
    ];
    if offset == 0 {
        return Ok((fixed, stream(bytes)).into_response());
    }
    let skipped = tokio::io::copy(&mut (&mut bytes).take(offset), &mut tokio::io::sink()).await?;
    if skipped < offset {
        let all = [(CONTENT_RANGE, format!("bytes */{skipped}"))];
        return Ok((StatusCode::RANGE_NOT_SATISFIABLE, all).into_response());
    }
    // How long it is altogether is not known before it was read.
    let range = [(CONTENT_RANGE, format!("bytes {offset}-/*"))];
    Ok((StatusCode::PARTIAL_CONTENT, fixed, range, stream(bytes)).into_response())
}

fn stream(bytes: BlobReader) -> Body {
    Body::from_stream(ReaderStream::with_capacity(bytes, READ_BYTES))
}

/// The N of `bytes=N-`.
fn begins_at(range: &HeaderValue) -> Option<u64> {
    let number = range.to_str().ok()?.strip_prefix("bytes=")?.strip_suffix('-')?;
    // A sign is no digit.
    number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_range_is_from_a_byte_to_the_end() {
        let begins_at = |text: &'static str| begins_at(&HeaderValue::from_static(text));
        assert_eq!(begins_at("bytes=0-"), Some(0));
        assert_eq!(begins_at("bytes=1048576-"), Some(1_048_576));
        for other in
            ["bytes=0-9", "bytes=-5", "bytes=+5-", "bytes=0-,9-", "items=0-", "bytes=99999999999999999999-", ""]
        {
            assert_eq!(begins_at(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_the_parser_panic(text in "[ -~]{0,40}", number in any::<u64>()) {
            if let Ok(value) = HeaderValue::from_str(&text) {
                let _ = begins_at(&value);
            }
            prop_assert_eq!(begins_at(&HeaderValue::from_str(&format!("bytes={number}-")).unwrap()), Some(number));
        }
    }
}
