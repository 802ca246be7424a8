//! Where browsers reach the installation: the setting `server.public_url`. Links that are handed out begin with it, providers
//! of identities send people back to it, and calls with a cookie have to come from a page of it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use axum::http::Uri;

use crate::cors::Origin;

/// A scheme, a host and a port: `https://souk.example.com`, or `http://127.0.0.1:8080` on this machine alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl(String);

/// A text that is no such address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be an address such as https://souk.example.com, or http://127.0.0.1:8080 on one machine; given `{given}`: {reason}"
)]
pub struct PublicUrlError {
    given: String,
    reason: String,
}

impl PublicUrl {
    /// Reads an address. One slash at its end does not count.
    ///
    /// # Errors
    /// [`PublicUrlError`]: browsers keep the cookies of a session over TLS alone, and from their own machine; they keep
    /// them for a host and not for a path of it.
    pub fn parse(text: &str) -> Result<Self, PublicUrlError> {
        let failed =
            |reason: &str| PublicUrlError { given: text.chars().take(200).collect(), reason: reason.to_owned() };
        let bare = text.strip_suffix('/').unwrap_or(text);
        Origin::parse(bare).map_err(|error| failed(error.reason()))?;
        let uri: Uri = bare.parse().map_err(|_| failed("it is not an address"))?;
        let host = uri.host().unwrap_or_default();
        match uri.scheme_str() {
            Some("https") => Ok(Self(bare.to_owned())),
            Some("http") if is_this_machine(host) => Ok(Self(bare.to_owned())),
            _ => Err(failed("it needs https, since browsers keep no session over plain http but on their own machine")),
        }
    }

    /// That of a port on this machine; `None` for one that others reach.
    #[must_use]
    pub fn of_this_machine(address: SocketAddr) -> Option<Self> {
        // Browsers leave out the scheme's own port.
        let port = if address.port() == 80 { String::new() } else { format!(":{}", address.port()) };
        let host = if address.is_ipv6() { format!("[{}]", address.ip()) } else { address.ip().to_string() };
        Self::parse(&format!("http://{host}{port}")).ok()
    }

    /// What browsers send as the `Origin` of pages of it.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.0
    }

    /// The whole address of a path.
    #[must_use]
    pub fn at(&self, path: &str) -> String {
        debug_assert!(path.starts_with('/'), "a path begins with a slash");
        format!("{}{path}", self.0)
    }

    /// Whether it is reached without TLS, from this machine.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.0.starts_with("http:")
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a host of an address is the machine itself.
#[must_use]
pub fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_has_tls_or_is_of_this_machine() {
        for good in [
            "https://souk.example.com",
            "https://souk.example.com:8443",
            "http://127.0.0.1:8080",
            "http://localhost:1",
            "http://[::1]:8080",
        ] {
            assert_eq!(PublicUrl::parse(good).unwrap().origin(), good);
            assert_eq!(PublicUrl::parse(&format!("{good}/")).unwrap().origin(), good);
        }
        let url = PublicUrl::parse("https://souk.example.com").unwrap();
        assert_eq!(url.at("/sign-in"), "https://souk.example.com/sign-in");
        for bad in [
            "",
            "souk.example.com",
            "http://souk.example.com",
            "http://10.0.0.1",
            "ftp://127.0.0.1",
            "https://a.example/souk",
            "https://a.example?x",
            "https://u@a.example",
            "https://A.example",
            "https://a.example:443",
            "http://127.0.0.1.example.com",
        ] {
            let error = PublicUrl::parse(bad).unwrap_err().to_string();
            assert!(error.contains(&format!("given `{bad}`")), "{error}");
        }
    }

    #[test]
    fn a_port_of_this_machine_is_an_address_that_browsers_write_so() {
        let of = |text: &str| PublicUrl::of_this_machine(text.parse().unwrap()).map(|url| url.to_string());
        assert_eq!(of("127.0.0.1:8080").as_deref(), Some("http://127.0.0.1:8080"));
        assert_eq!(of("127.0.0.1:80").as_deref(), Some("http://127.0.0.1"));
        assert_eq!(of("[::1]:8080").as_deref(), Some("http://[::1]:8080"));
        assert_eq!(of("192.0.2.1:8080"), None);
    }

    proptest! {
        #[test]
        fn what_is_read_is_an_origin_and_reads_again(text in "\\PC{0,60}|https?://[a-z0-9.:@/\\[\\]-]{0,30}") {
            if let Ok(url) = PublicUrl::parse(&text) {
                prop_assert_eq!(PublicUrl::parse(url.origin()), Ok(url.clone()));
                prop_assert!(Origin::parse(url.origin()).is_ok());
            }
        }
    }
}
