//! What the listener grants: the section `[server]` of the settings.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use souk_protocol::settings::{self, Checks, milliseconds, seconds};

use super::proxy::Networks;
use crate::public_url::{PublicUrl, PublicUrlError};

/// Bounds on connections and on what their clients may wait with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// Address and port; port 0 takes a free one.
    pub listen: String,
    /// Address and port for operators; empty: see [`admin_address`](Self::admin_address).
    pub admin_listen: String,
    /// Where browsers reach the installation; empty: see [`public_url`](Self::public_url).
    pub public_url: String,
    /// Threads that read requests and write answers; 0: one for each core that the process may use.
    pub threads: usize,
    /// How long everything has to end after a signal to stop.
    #[serde(rename = "drain_timeout_s", deserialize_with = "seconds::deserialize")]
    pub drain_timeout: Duration,
    /// Connections at once, over all listeners.
    pub max_connections: u64,
    /// Connections of one address, an IPv6 network of 64 bits counting as one.
    pub max_connections_per_address: u64,
    /// How long a client may take from the connection to the end of its TLS handshake.
    #[serde(rename = "handshake_timeout_ms", deserialize_with = "milliseconds::deserialize")]
    pub handshake_timeout: Duration,
    /// How long a client may take to send the head of a request.
    #[serde(rename = "headers_timeout_ms", deserialize_with = "milliseconds::deserialize")]
    pub headers_timeout: Duration,
    /// How long a connection without a request is kept.
    #[serde(rename = "idle_timeout_ms", deserialize_with = "milliseconds::deserialize")]
    pub idle_timeout: Duration,
    /// How long a client may take nothing of an answer.
    #[serde(rename = "stall_timeout_ms", deserialize_with = "milliseconds::deserialize")]
    pub stall_timeout: Duration,
    /// Least rate of a request's body, in bytes a second.
    pub min_body_rate: u64,
    /// Over how long that rate is measured.
    #[serde(rename = "body_rate_window_ms", deserialize_with = "milliseconds::deserialize")]
    pub body_rate_window: Duration,
    /// Requests at once on an HTTP/2 connection.
    pub max_streams: u32,
    /// Longest head of a request, in bytes.
    pub max_header_bytes: usize,
    /// Whose word for the address of a client counts.
    pub trusted_proxies: Networks,
    /// What the port for everybody is encrypted with.
    pub tls: TlsSettings,
}

/// Files of a certificate. Both are empty where there is no TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// The chain of certificates, PEM, the server's own first.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Whether the operators' port speaks TLS too.
    pub operators: bool,
    /// Authorities (PEM) whose certificates services of the installation have to show at the operators' port; empty: none.
    pub client_ca: PathBuf,
}

impl Default for ServerSettings {
    fn default() -> Self {
        settings::defaults("server")
    }
}

impl ServerSettings {
    /// Says which of them cannot be used.
    pub fn check(&self, checks: &mut Checks) {
        let mut time = |key: &str, given: Duration, least: u64| {
            checks.within(&format!("server.{key}"), given.as_millis() as u64, least..=3_600_000);
        };
        time("handshake_timeout_ms", self.handshake_timeout, 100);
        time("headers_timeout_ms", self.headers_timeout, 100);
        time("idle_timeout_ms", self.idle_timeout, 100);
        time("stall_timeout_ms", self.stall_timeout, 100);
        time("body_rate_window_ms", self.body_rate_window, 100);
        checks.within("server.threads", self.threads as u64, 0..=1024);
        checks.within("server.drain_timeout_s", self.drain_timeout.as_secs(), 0..=86_400);
        checks.within("server.max_connections", self.max_connections, 8..=1 << 20);
        checks.within("server.max_connections_per_address", self.max_connections_per_address, 1..=1 << 20);
        checks.within("server.min_body_rate", self.min_body_rate, 0..=1 << 20);
        checks.within("server.max_streams", self.max_streams, 1..=1 << 16);
        // hyper needs 8 KiB for a head.
        checks.within("server.max_header_bytes", self.max_header_bytes, 8192..=1 << 20);
        if let Some(Err(error)) = self.given_public_url() {
            checks.rule(false, || format!("server.public_url {error}"));
        }
        let pair = self.tls.cert.as_os_str().is_empty() == self.tls.key.as_os_str().is_empty();
        checks.rule(pair, || "server.tls.cert and server.tls.key must be given together".to_owned());
        checks.rule(!self.tls.is_on() || !self.admin_shares_port(), || {
            "server.admin_listen must be an address of its own where server.tls is on".to_owned()
        });
        checks.rule(self.tls.is_on() || !self.tls.operators, || {
            "server.tls.operators needs server.tls.cert and server.tls.key; given neither".to_owned()
        });
        checks.rule(self.tls.operators || !self.tls.asks(), || {
            let given = self.tls.client_ca.display();
            format!("server.tls.client_ca needs server.tls.operators, whose port services call; given {given}")
        });
    }

    /// Where operators' routes are to be served, if not beside all others.
    ///
    /// An address that was set is taken. Where none was, what only this machine can reach serves everything, and a
    /// `listen` that others can reach has operators' routes on the loopback address at the next port.
    #[must_use]
    pub fn admin_address(&self) -> Option<String> {
        if self.admin_shares_port() {
            return None;
        }
        if !self.admin_listen.is_empty() {
            return Some(self.admin_listen.clone());
        }
        let port = self.listen.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok()).unwrap_or(0);
        if self.is_private() {
            return None;
        }
        Some(format!("127.0.0.1:{}", if port == 0 { 0 } else { port.checked_add(1).unwrap_or(0) }))
    }

    /// Where browsers reach the installation, if the settings say so and it can be used.
    #[must_use]
    pub fn public_url(&self) -> Option<PublicUrl> {
        self.given_public_url()?.ok()
    }

    fn given_public_url(&self) -> Option<Result<PublicUrl, PublicUrlError>> {
        (!self.public_url.is_empty()).then(|| PublicUrl::parse(&self.public_url))
    }

    fn admin_shares_port(&self) -> bool {
        self.admin_listen == self.listen
    }

    /// Whether `listen` can be reached from this machine only.
    fn is_private(&self) -> bool {
        if self.tls.is_on() {
            return false;
        }
        let host = self.listen.rsplit_once(':').map_or("", |(host, _)| host);
        host == "localhost" || self.listen.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback())
    }
}

impl TlsSettings {
    /// Whether there is a certificate.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.cert.as_os_str().is_empty()
    }

    /// Whether clients are asked for certificates.
    #[must_use]
    pub fn asks(&self) -> bool {
        !self.client_ca.as_os_str().is_empty()
    }

    /// The same for a port where nobody is asked: browsers show a question for it.
    #[must_use]
    pub fn asking_nobody(&self) -> Self {
        Self { client_ca: PathBuf::new(), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_page_and_can_be_used() {
        let mut checks = Checks::default();
        ServerSettings::default().check(&mut checks);
        assert_eq!(checks.finish(), Ok(()));
    }

    #[test]
    fn operators_have_the_loopback_address_for_themselves_where_others_can_reach_the_port() {
        let admin = |listen: &str, admin: &str| {
            let settings = ServerSettings { listen: listen.into(), admin_listen: admin.into(), ..Default::default() };
            settings.admin_address()
        };
        for private in ["127.0.0.1:8080", "[::1]:0", "localhost:8080", "127.9.9.9:1"] {
            assert_eq!(admin(private, ""), None, "{private}");
        }
        assert_eq!(admin("0.0.0.0:8080", "").as_deref(), Some("127.0.0.1:8081"));
        assert_eq!(admin("[::]:8080", "").as_deref(), Some("127.0.0.1:8081"));
        assert_eq!(admin("souk.example.com:443", "").as_deref(), Some("127.0.0.1:444"));
        assert_eq!(admin("0.0.0.0:0", "").as_deref(), Some("127.0.0.1:0"));
        assert_eq!(admin("127.0.0.1:8080", "10.0.0.1:9").as_deref(), Some("10.0.0.1:9"));
        assert_eq!(admin("0.0.0.0:8080", "0.0.0.0:8080"), None, "as the operator wants");
    }

    #[test]
    fn an_address_that_browsers_keep_no_session_for_is_refused() {
        let mut checks = Checks::default();
        ServerSettings { public_url: "http://souk.example.com".into(), ..Default::default() }.check(&mut checks);
        let error = checks.finish().unwrap_err().to_string();
        assert!(error.starts_with("server.public_url must be an address such as"), "{error}");
        assert!(error.contains("given `http://souk.example.com`"), "{error}");
    }

    #[test]
    fn half_a_certificate_is_refused() {
        let tls = TlsSettings { cert: "chain.pem".into(), ..Default::default() };
        let mut checks = Checks::default();
        ServerSettings { tls, ..Default::default() }.check(&mut checks);
        assert_eq!(
            checks.finish().unwrap_err().to_string(),
            "server.tls.cert and server.tls.key must be given together"
        );
    }

    #[test]
    fn certificates_of_clients_are_for_the_port_that_services_call() {
        let files = |operators| TlsSettings {
            cert: "chain.pem".into(),
            key: "key.pem".into(),
            operators,
            client_ca: "services.pem".into(),
        };
        let check = |tls| {
            let mut checks = Checks::default();
            ServerSettings { tls, admin_listen: "10.0.0.1:9".into(), ..Default::default() }.check(&mut checks);
            checks.finish().map_err(|error| error.to_string())
        };
        assert_eq!(check(files(true)), Ok(()));
        let error = check(files(false)).unwrap_err();
        assert!(error.starts_with("server.tls.client_ca needs") && error.ends_with("given services.pem"), "{error}");
    }
}
