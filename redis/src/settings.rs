//! The section `[redis]` of the settings.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};
use souk_protocol::settings::{self, Checks, milliseconds};

/// Where Redis is, and what is expected of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisSettings {
    /// `redis://[user:password@]host[:port][/database]`; `rediss://…` with TLS. Empty: there is none. With sentinels only its
    /// scheme, user, password and database count.
    #[serde(deserialize_with = "secret")]
    pub url: SecretString,
    /// The name of the master that sentinels watch; empty: there are no sentinels.
    pub sentinel_master: String,
    /// The sentinels, or further servers of a cluster to begin with, each as `host:port`.
    pub addresses: Vec<String>,
    /// Whether it is a cluster.
    pub cluster: bool,
    /// The user of the server's access list; empty: the URL's.
    pub user: String,
    /// The password; empty: the URL's.
    #[serde(deserialize_with = "secret")]
    pub password: SecretString,
    /// A file with the password, which is read at each connection; empty: there is none.
    pub password_file: PathBuf,
    /// A file of certificates in PEM that sign the servers'; empty: those that the system trusts.
    pub root_certificate: PathBuf,
    /// The user of the sentinels' access lists; empty: their default user.
    pub sentinel_user: String,
    /// The password of the sentinels, which is not the servers'; empty: they ask for none.
    #[serde(deserialize_with = "secret")]
    pub sentinel_password: SecretString,
    /// A file with that password, which is read at each question; empty: there is none.
    pub sentinel_password_file: PathBuf,
    /// Whether sentinels speak TLS.
    pub sentinel_tls: SentinelTls,
    /// A file of certificates in PEM that sign the sentinels'; empty: `root_certificate`.
    pub sentinel_root_certificate: PathBuf,
    /// For how long a new connection may take until it can be used.
    #[serde(rename = "connect_timeout_ms", deserialize_with = "milliseconds::deserialize")]
    pub connect_timeout: Duration,
    /// For how long an answer may take. Past it the server counts as away.
    #[serde(rename = "response_timeout_ms", deserialize_with = "milliseconds::deserialize")]
    pub response_timeout: Duration,
}

/// Whether sentinels speak TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SentinelTls {
    /// As the servers.
    #[default]
    AsUrl,
    /// They do, whatever the servers do.
    On,
    /// They do not.
    Off,
}

impl Default for RedisSettings {
    fn default() -> Self {
        settings::defaults("redis")
    }
}

impl RedisSettings {
    /// One server, all else by default.
    #[must_use]
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: SecretString::from(url.into()), ..Self::default() }
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !self.url.expose_secret().is_empty()
    }

    /// Whether sentinels are called by TLS.
    #[must_use]
    pub fn sentinels_speak_tls(&self) -> bool {
        match self.sentinel_tls {
            SentinelTls::AsUrl => self.url.expose_secret().starts_with("rediss://"),
            SentinelTls::On => true,
            SentinelTls::Off => false,
        }
    }

    /// Checks that each value can be used, alone and with the others. What may have a password is not shown.
    pub fn check(&self, checks: &mut Checks) {
        let url = self.url.expose_secret();
        checks.rule(url.is_empty() || url.starts_with("redis://") || url.starts_with("rediss://"), || {
            "redis.url must begin with redis:// or rediss://, or be empty".to_owned()
        });
        checks.rule(!self.cluster || self.sentinel_master.is_empty(), || {
            let given = &self.sentinel_master;
            format!("redis.sentinel_master must be empty with redis.cluster; given {given:?}")
        });
        checks.rule(self.sentinel_master.is_empty() || !self.addresses.is_empty(), || {
            let given = &self.sentinel_master;
            format!("redis.addresses must have the sentinels of redis.sentinel_master; given none for {given:?}")
        });
        for address in &self.addresses {
            checks.rule(address_of(address).is_some(), || {
                format!("redis.addresses must be host:port each; given {address:?}")
            });
        }
        checks.rule(self.password.expose_secret().is_empty() || self.password_file.as_os_str().is_empty(), || {
            let given = self.password_file.display();
            format!("redis.password_file must be empty with redis.password; given {given}")
        });
        checks.rule(self.root_certificate.as_os_str().is_empty() || url.starts_with("rediss://"), || {
            let given = self.root_certificate.display();
            format!("redis.root_certificate needs a redis.url that begins with rediss://; given {given}")
        });
        self.check_sentinels(checks);
        checks.within("redis.connect_timeout_ms", self.connect_timeout.as_millis(), 1..=60_000);
        checks.within("redis.response_timeout_ms", self.response_timeout.as_millis(), 1..=60_000);
    }

    /// What is said of sentinels. Where there are none, what is said of them is a mistake.
    fn check_sentinels(&self, checks: &mut Checks) {
        let (password, file) = (!self.sentinel_password.expose_secret().is_empty(), &self.sentinel_password_file);
        let (has_file, root) = (!file.as_os_str().is_empty(), &self.sentinel_root_certificate);
        checks.rule(!password || !has_file, || {
            format!("redis.sentinel_password_file must be empty with redis.sentinel_password; given {}", file.display())
        });
        checks.rule(self.sentinel_user.is_empty() || password || has_file, || {
            let given = &self.sentinel_user;
            format!("redis.sentinel_user needs redis.sentinel_password or its file; given neither for {given:?}")
        });
        checks.rule(root.as_os_str().is_empty() || self.sentinels_speak_tls(), || {
            let given = root.display();
            format!("redis.sentinel_root_certificate needs sentinels with TLS (redis.sentinel_tls); given {given}")
        });
        let said = [
            ("sentinel_user", !self.sentinel_user.is_empty()),
            ("sentinel_password", password),
            ("sentinel_password_file", has_file),
            ("sentinel_tls", self.sentinel_tls != SentinelTls::AsUrl),
            ("sentinel_root_certificate", !root.as_os_str().is_empty()),
        ];
        for (key, _) in said.into_iter().filter(|(_, is_said)| *is_said) {
            checks.rule(!self.sentinel_master.is_empty(), || {
                format!("redis.{key} is for sentinels; redis.sentinel_master, which says that there are some, is empty")
            });
        }
    }
}

/// Host and port of one server.
pub(crate) type Address = (Arc<str>, u16);

/// Host and port of `host:port` or `[IPv6]:port`.
pub(crate) fn address_of(text: &str) -> Option<Address> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().ok().filter(|port| *port > 0)?;
    (!host.is_empty()).then(|| (host.into(), port))
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(settings: &RedisSettings) -> Option<String> {
        let mut checks = Checks::default();
        settings.check(&mut checks);
        checks.finish().err().map(|error| error.to_string())
    }

    #[test]
    fn the_defaults_can_be_used_and_name_no_server() {
        assert_eq!(problem(&RedisSettings::default()), None);
        assert!(!RedisSettings::default().is_set());
    }

    #[test]
    fn what_does_not_go_together_is_told_with_its_field_and_no_password() {
        let base = RedisSettings::at("redis://:hunter2@db:6379");
        let watched = RedisSettings {
            sentinel_master: "souk".to_owned(),
            addresses: vec!["db:26379".to_owned()],
            ..base.clone()
        };
        assert_eq!(problem(&watched), None);
        let cases = [
            (RedisSettings { url: SecretString::from("http://:hunter2@db"), ..base.clone() }, "redis.url"),
            (RedisSettings { sentinel_master: "souk".to_owned(), ..base.clone() }, "redis.addresses"),
            (
                RedisSettings { sentinel_master: "souk".to_owned(), cluster: true, ..base.clone() },
                "redis.sentinel_master",
            ),
            (RedisSettings { addresses: vec!["db".to_owned()], ..base.clone() }, "given \"db\""),
            (RedisSettings { root_certificate: "ca.pem".into(), ..base.clone() }, "given ca.pem"),
            (
                RedisSettings { password: SecretString::from("hunter2"), password_file: "p".into(), ..base.clone() },
                "redis.password_file",
            ),
            (RedisSettings { response_timeout: Duration::ZERO, ..base.clone() }, "redis.response_timeout_ms"),
            (
                RedisSettings { sentinel_password: SecretString::from("hunter2"), ..base.clone() },
                "redis.sentinel_password is for sentinels",
            ),
            (
                RedisSettings {
                    sentinel_password: SecretString::from("hunter2"),
                    sentinel_password_file: "p".into(),
                    ..watched.clone()
                },
                "redis.sentinel_password_file must be empty",
            ),
            (RedisSettings { sentinel_user: "souk".to_owned(), ..watched.clone() }, "given neither for \"souk\""),
            (
                RedisSettings { sentinel_root_certificate: "ca.pem".into(), ..watched.clone() },
                "redis.sentinel_root_certificate needs sentinels with TLS",
            ),
        ];
        for (settings, expected) in cases {
            let problem = problem(&settings).unwrap_or_default();
            assert!(problem.contains(expected) && !problem.contains("hunter2"), "{problem}");
            assert!(!format!("{settings:?}").contains("hunter2"));
        }
    }

    #[test]
    fn addresses_have_a_host_and_a_port() {
        assert_eq!(address_of("db:6379"), Some(("db".into(), 6379)));
        assert_eq!(address_of("[::1]:7000"), Some(("::1".into(), 7000)));
        for wrong in ["", "db", ":6379", "db:", "db:0", "db:70000"] {
            assert_eq!(address_of(wrong), None, "{wrong}");
        }
    }
}
