//! `Idempotency-Key`: the header by which a call that makes or charges something can be repeated without doing it twice.
//! What a key was used for is the service's to remember.

use axum::http::{HeaderMap, HeaderName};
use utoipa::IntoParams;

/// Longest key, as Stripe has it.
pub const MAX_KEY_BYTES: usize = 255;

/// The header of the request.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The header of an answer that was given before.
pub const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The header, for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only its shape is read, by the derive")]
pub struct IdempotencyKey {
    /// 1 to 255 characters of the caller's choice. A repetition with the same key and body within 24 hours makes nothing
    /// and hears the first answer, with `idempotency-replayed: true`; with another body it is 422
    /// `idempotency_mismatch`, and 409 `idempotency_in_flight` while the first still runs.
    #[param(rename = "Idempotency-Key")]
    idempotency_key: Option<String>,
}

/// Why a key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Empty or longer than [`MAX_KEY_BYTES`].
    #[error("Idempotency-Key is 1 to {MAX_KEY_BYTES} ASCII characters, given {0}")]
    Length(usize),
    /// Not ASCII.
    #[error("Idempotency-Key is 1 to {MAX_KEY_BYTES} ASCII characters, given others")]
    NotAscii,
    /// The header is there more than once.
    #[error("Idempotency-Key can be given once, given {0} times")]
    Several(usize),
}

/// The key that the caller chose, bare or in quotes; `None` where there is no such header.
///
/// # Errors
/// [`KeyError`].
pub fn key(headers: &HeaderMap) -> Result<Option<&str>, KeyError> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match values.count() {
        0 => {}
        others => return Err(KeyError::Several(others + 1)),
    }
    let text = value.to_str().map_err(|_| KeyError::NotAscii)?;
    let key = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    if (1..=MAX_KEY_BYTES).contains(&key.len()) { Ok(Some(key)) } else { Err(KeyError::Length(key.len())) }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn given(values: &[&[u8]]) -> Result<Option<String>, KeyError> {
        let values = values.iter().map(|value| (IDEMPOTENCY_KEY, HeaderValue::from_bytes(value).unwrap()));
        key(&HeaderMap::from_iter(values)).map(|key| key.map(str::to_owned))
    }

    #[test]
    fn a_key_is_taken_bare_or_in_quotes() {
        assert_eq!(given(&[]), Ok(None));
        assert_eq!(given(&[b"abc"]), Ok(Some("abc".to_owned())));
        assert_eq!(given(&[b"\"abc\""]), Ok(Some("abc".to_owned())));
        assert_eq!(given(&[b"\"abc"]), Ok(Some("\"abc".to_owned())));
    }

    #[test]
    fn empty_long_foreign_and_repeated_keys_are_refused_with_the_number() {
        assert_eq!(given(&[b""]), Err(KeyError::Length(0)));
        assert_eq!(given(&[b"\"\""]), Err(KeyError::Length(0)));
        assert_eq!(given(&[&[b'k'; 256]]), Err(KeyError::Length(256)));
        assert_eq!(given(&["schlüssel".as_bytes()]), Err(KeyError::NotAscii));
        assert_eq!(given(&[b"one", b"two"]), Err(KeyError::Several(2)));
        assert_eq!(KeyError::Length(256).to_string(), "Idempotency-Key is 1 to 255 ASCII characters, given 256");
    }

    proptest! {
        #[test]
        fn a_key_is_within_its_bounds_whatever_the_header(value in "[\\x20-\\x7e\\x80-\\u{ff}]{0,300}") {
            if let Ok(Some(key)) = given(&[value.as_bytes()]) {
                prop_assert!((1..=MAX_KEY_BYTES).contains(&key.len()) && key.is_ascii());
            }
        }
    }

    #[test]
    fn any_bytes_of_headers_are_a_key_or_a_reason_why_not() {
        souk_testkit::fuzz("request_headers", |bytes| {
            let lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
            let values: Vec<HeaderValue> = lines.collect();
            let keys: HeaderMap = values.iter().map(|value| (IDEMPOTENCY_KEY, value.clone())).collect();
            let bearers: HeaderMap =
                values.into_iter().map(|value| (axum::http::header::AUTHORIZATION, value)).collect();
            let origin = crate::cors::Origin::parse(&String::from_utf8_lossy(bytes));
            let origin = origin.err().and_then(|error| error.to_string().rsplit(": ").next().map(str::to_owned));
            format!(
                "{:?} {:?} {origin:?}",
                key(&keys).map(|key| key.is_some()),
                crate::bearer::token(&bearers).map(|_| ())
            )
        });
    }
}
