//! `Authorization: Bearer …`: the key or token that a caller presents.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;

/// No key is longer, and no session token of ours; what is longer is not looked up.
pub const MAX_BYTES: usize = 4096;

/// Why there is nothing to look up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BearerError {
    /// No such header, one of another scheme, or one without a token.
    #[error("no bearer token was presented")]
    Missing,
    /// What is presented cannot be a token: it is not text, or longer than [`MAX_BYTES`].
    #[error("what was presented is no token")]
    Malformed,
}

/// The token that the caller presents.
///
/// # Errors
/// [`BearerError`].
pub fn token(headers: &HeaderMap) -> Result<&str, BearerError> {
    let header = headers.get(AUTHORIZATION).ok_or(BearerError::Missing)?;
    let text = header.to_str().map_err(|_| BearerError::Malformed)?;
    let (scheme, token) = text.trim().split_once(' ').ok_or(BearerError::Missing)?;
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(BearerError::Missing);
    }
    if token.len() > MAX_BYTES { Err(BearerError::Malformed) } else { Ok(token) }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn presented(value: &[u8]) -> Result<String, BearerError> {
        let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap())]);
        token(&headers).map(str::to_owned)
    }

    #[test]
    fn the_scheme_may_be_written_in_any_case_and_spaces_do_not_count() {
        for value in ["Bearer souk_key", "bearer souk_key", "BEARER   souk_key  ", "  Bearer souk_key"] {
            assert_eq!(presented(value.as_bytes()).as_deref(), Ok("souk_key"), "{value}");
        }
    }

    #[test]
    fn what_is_no_bearer_token_is_missing_and_what_cannot_be_a_key_malformed() {
        for value in ["", "Bearer", "Bearer ", "souk_key", "Basic dXNlcg=="] {
            assert_eq!(presented(value.as_bytes()), Err(BearerError::Missing), "{value}");
        }
        assert_eq!(token(&HeaderMap::new()), Err(BearerError::Missing));
        assert_eq!(presented(b"Bearer \xff"), Err(BearerError::Malformed));
        let longest = "k".repeat(MAX_BYTES);
        assert_eq!(presented(format!("Bearer {longest}").as_bytes()), Ok(longest.clone()));
        assert_eq!(presented(format!("Bearer {longest}k").as_bytes()), Err(BearerError::Malformed));
    }

    proptest! {
        #[test]
        fn a_token_is_never_empty_nor_too_long_whatever_the_header(value in "[\\x20-\\x7e\\x80-\\u{ff}]{0,64}") {
            if let Ok(token) = presented(value.as_bytes()) {
                prop_assert!(!token.is_empty() && token.len() <= MAX_BYTES && token == token.trim());
            }
        }
    }
}
