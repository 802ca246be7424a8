//! Which pages of other origins may call: cross-origin resource sharing, as browsers ask for it.
//!
//! It is for routes whose callers present a key in a header. A browser sends that only where the page itself has it, so
//! an open door gives away nothing that the page did not have. Answers never allow credentials, so cookies never take
//! part; a route that knows its caller by a cookie must not be put behind this.

use std::fmt;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, Uri};
use serde::{Deserialize, Deserializer, de};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::idempotency::IDEMPOTENCY_REPLAYED;
use crate::request_id::X_REQUEST_ID;

/// How long a browser may remember that it may call. Browsers cap it themselves, Chromium at two hours.
const MAX_AGE: Duration = Duration::from_secs(3600);

/// What a page may read of an answer's headers, beside what every page may.
const EXPOSED: [HeaderName; 16] = [
    X_REQUEST_ID,
    IDEMPOTENCY_REPLAYED,
    HeaderName::from_static("link"),
    HeaderName::from_static("retry-after"),
    HeaderName::from_static("x-should-retry"),
    HeaderName::from_static("x-souk-adapter-digest"),
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
    HeaderName::from_static("ratelimit"),
    HeaderName::from_static("ratelimit-policy"),
    HeaderName::from_static("x-souk-limits-shadowed"),
    HeaderName::from_static("x-souk-first-request"),
];

/// The section `[cors]` of the settings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorsConfig {
    /// The pages of other origins that may call the OpenAI API.
    pub origins: CorsOrigins,
}

/// The pages that may call, by the origin that they come from. As a setting it is a list of texts: none, `*`, or
/// origins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsOrigins {
    /// None: browsers let only pages of the same origin call.
    Off,
    /// Every page.
    Any,
    /// Pages of these origins.
    List(Vec<Origin>),
}

/// Where a page comes from, as browsers write it: scheme, host and the port unless it is the scheme's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(HeaderValue);

/// A text that no browser writes as an origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not an origin such as https://app.example.com or http://localhost:3000: {reason}")]
pub struct OriginError {
    given: String,
    reason: &'static str,
}

/// What is wrong with a list of origins.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CorsError {
    /// An entry is no origin.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// `*` leaves nothing for other entries to add.
    #[error("`*` stands alone: it allows every origin; given {0} entries")]
    StarNotAlone(usize),
}

impl OriginError {
    /// Why it is none.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        self.reason
    }
}

impl CorsOrigins {
    /// The setting's list.
    ///
    /// # Errors
    /// [`CorsError`] with the entry that is wrong.
    pub fn parse(entries: &[String]) -> Result<Self, CorsError> {
        match entries {
            [] => Ok(Self::Off),
            [star] if star == "*" => Ok(Self::Any),
            entries if entries.iter().any(|entry| entry == "*") => Err(CorsError::StarNotAlone(entries.len())),
            entries => Ok(Self::List(entries.iter().map(|entry| Origin::parse(entry)).collect::<Result<_, _>>()?)),
        }
    }

    /// The layer that answers preflights, without a key, and lets pages read answers; `None` where no page may.
    ///
    /// It must lie outside of everything that can refuse, so that a page can read refusals too.
    #[must_use]
    pub fn layer(&self) -> Option<CorsLayer> {
        let origins = match self {
            Self::Off => return None,
            Self::Any => AllowOrigin::any(),
            Self::List(origins) => AllowOrigin::list(origins.iter().map(|Origin(value)| value.clone())),
        };
        // Clients send headers of their own making, such as `x-stainless-os`; none of them means anything here, so each
        // that is asked for may be sent.
        let layer = CorsLayer::new().allow_origin(origins).allow_headers(AllowHeaders::mirror_request());
        Some(layer.allow_methods([Method::GET, Method::POST]).expose_headers(EXPOSED).max_age(MAX_AGE))
    }
}

impl Origin {
    /// Reads an origin.
    ///
    /// # Errors
    /// [`OriginError`] also for a text that only looks like one, such as an address with a path, since no browser would
    /// ever present it.
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        let failed = |reason| OriginError { given: text.chars().take(200).collect(), reason };
        let uri: Uri = text.parse().map_err(|_| failed("it is not an address"))?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(failed("it needs a scheme and a host"));
        };
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(failed("it is a scheme, a host and perhaps a port"));
        }
        if authority.as_str().contains('*') {
            return Err(failed("there are no patterns; list each origin, or allow all with `*` alone"));
        }
        if text != format!("{scheme}://{authority}") {
            return Err(failed("it ends after the host or the port, without a slash"));
        }
        if text.chars().any(|character| character.is_ascii_uppercase()) {
            return Err(failed("browsers write origins in lower case"));
        }
        if matches!((scheme, authority.port_u16()), ("https", Some(443)) | ("http", Some(80))) {
            return Err(failed("browsers leave out the scheme's own port"));
        }
        if authority.port_u16().is_none() && authority.as_str().len() != authority.host().len() {
            return Err(failed("its port is not a number up to 65535"));
        }
        Ok(Self(HeaderValue::from_str(text).map_err(|_| failed("it is not ASCII"))?))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_str().unwrap_or_default())
    }
}

impl<'de> Deserialize<'de> for CorsOrigins {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&Vec::<String>::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(entries: &[&str]) -> Result<CorsOrigins, CorsError> {
        CorsOrigins::parse(&entries.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_list_is_off_any_or_origins() {
        assert_eq!(parse(&[]), Ok(CorsOrigins::Off));
        assert_eq!(parse(&["*"]), Ok(CorsOrigins::Any));
        let origins = ["https://app.example.com", "http://localhost:3000", "http://[::1]:8000", "tauri://localhost"];
        let Ok(CorsOrigins::List(list)) = parse(&origins) else { panic!("{:?}", parse(&origins)) };
        assert_eq!(list.iter().map(ToString::to_string).collect::<Vec<_>>(), origins);
    }

    #[test]
    fn a_text_that_no_browser_presents_is_an_error_that_names_it() {
        let wrong = [
            "app.example.com",
            "https://app.example.com/",
            "https://app.example.com/page",
            "https://App.example.com",
            "https://app.example.com:443",
            "http://localhost:80",
            "http://localhost:99999",
            "http://localhost:",
            "https://user@app.example.com",
            "https://*.example.com",
            "https://app.example.com:port",
            "https://",
            "null",
            "",
        ];
        for text in wrong {
            let error = parse(&["https://good.example.com", text]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{text}` is not an origin")), "{error}");
        }
        assert_eq!(parse(&["*", "https://app.example.com"]), Err(CorsError::StarNotAlone(2)));
    }

    proptest! {
        #[test]
        fn what_is_taken_is_written_as_it_was_given(text in "(https?|tauri)?(://)?[a-zA-Z0-9.:@\\[\\]*-]{0,20}/?.?") {
            if let Ok(origin) = Origin::parse(&text) {
                prop_assert_eq!(origin.to_string(), text);
            }
        }
    }
}
