//! Cookies of ours. Their names begin with `__Host-`, so a browser takes them over TLS alone (and from this machine), for
//! this host alone and for all of its paths; nobody else can set one.

use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::COOKIE;

/// Has the id and the secret of a session.
pub(crate) const SESSION_COOKIE: &str = "__Host-souk-session";
/// Has the id and the secret of a sign-in that is under way at a provider of identities.
pub(crate) const LOGIN_COOKIE: &str = "__Host-souk-login";

/// Longest value that is looked at.
const MAX_VALUE_CHARS: usize = 256;

/// With which requests a browser sends a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SameSite {
    /// Those that a page of ours begins.
    Strict,
    /// Those, and when a person comes from another site: back from a provider of identities.
    Lax,
}

/// The value of a cookie that the browser sends. A second one of the name, which no browser sends, does not count.
pub(crate) fn cookie_in<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(given, _)| *given == name)?;
    (value.len() <= MAX_VALUE_CHARS).then_some(value)
}

/// The header that sets a cookie. No script reads it.
pub(crate) fn new_cookie(name: &str, value: &str, same_site: SameSite, lives: Duration) -> String {
    let same_site = match same_site {
        SameSite::Strict => "Strict",
        SameSite::Lax => "Lax",
    };
    format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite={same_site}; Max-Age={}", lives.as_secs())
}

/// The header that takes a cookie away.
pub(crate) fn gone_cookie(name: &str) -> String {
    new_cookie(name, "", SameSite::Strict, Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn sent(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (COOKIE, HeaderValue::from_str(line).unwrap())).collect()
    }

    #[test]
    fn a_cookie_is_found_among_others_and_in_several_headers() {
        let headers = sent(&["a=1; __Host-souk-session=x.y ; b=2", "__Host-souk-login=z"]);
        assert_eq!(cookie_in(&headers, SESSION_COOKIE), Some("x.y"));
        assert_eq!(cookie_in(&headers, LOGIN_COOKIE), Some("z"));
        assert_eq!(cookie_in(&headers, "c"), None);
        assert_eq!(cookie_in(&sent(&["souk-session=x; __host-souk-session=y"]), SESSION_COOKIE), None);
        assert_eq!(cookie_in(&sent(&[&format!("a={}", "x".repeat(257))]), "a"), None);
    }

    #[test]
    fn what_is_set_no_script_no_other_host_and_no_plain_connection_gets() {
        let set = new_cookie(SESSION_COOKIE, "x.y", SameSite::Strict, Duration::from_secs(60));
        assert_eq!(set, "__Host-souk-session=x.y; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=60");
        assert!(gone_cookie(LOGIN_COOKIE).ends_with("Max-Age=0"));
    }

    proptest! {
        #[test]
        fn no_header_makes_the_reader_panic(line in "[ -~]{0,200}") {
            let headers = sent(&[&line]);
            if let Some(value) = cookie_in(&headers, SESSION_COOKIE) {
                prop_assert!(line.contains(value));
            }
        }
    }
}
