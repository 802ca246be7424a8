//! The section `[registry.database]` of the settings, and what either database waits.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};
use souk_protocol::settings::Checks;

/// How long a writer waits for another one, and a request for a connection, before it gives up and is told to come
/// back. Writes last milliseconds, so this is never reached unless something is stuck.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Which database, and how it is reached.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseSettings {
    /// `postgres://user@host:port/name`; empty: the SQLite file in the data folder. A secret, since it may have the
    /// password in it.
    #[serde(deserialize_with = "secret")]
    pub url: SecretString,
    /// The password; empty: it is in the URL or in a file, or none is needed.
    #[serde(deserialize_with = "secret")]
    pub password: SecretString,
    /// The file of the password, whose line end does not count; empty: none.
    pub password_file: PathBuf,
    /// How far the server is trusted.
    pub sslmode: SslMode,
    /// Certificates (PEM) of authorities that may sign the server's, beside the well-known ones; empty: those alone.
    pub root_cert: PathBuf,
}

/// How far a PostgreSQL server and the way to it are trusted. Words and meaning are libpq's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// TLS, with a certificate of a trusted authority for the host of the URL.
    VerifyFull,
    /// TLS with whatever certificate: nobody listens, but anybody may answer.
    Require,
    /// No TLS.
    Disable,
}

impl DatabaseSettings {
    /// Whether the database is the SQLite file.
    #[must_use]
    pub fn is_sqlite(&self) -> bool {
        self.url.expose_secret().is_empty()
    }

    pub(crate) fn check(&self, checks: &mut Checks) {
        let url = self.url.expose_secret();
        if !self.is_sqlite() {
            let problem = problem_of_url(url);
            checks.rule(problem.is_none(), || {
                format!("registry.database.url must be postgres://user@host:port/name, {}", problem.unwrap_or_default())
            });
        }
        let has_password = !self.password.expose_secret().is_empty();
        checks.rule(!has_password || self.password_file.as_os_str().is_empty(), || {
            let file = self.password_file.display();
            format!(
                "registry.database.password and registry.database.password_file are both set, the latter to {file}; set one of them"
            )
        });
        let has_root = !self.root_cert.as_os_str().is_empty();
        checks.rule(!has_root || self.sslmode == SslMode::VerifyFull, || {
            let file = self.root_cert.display();
            format!(
                "registry.database.root_cert is {file}, which only sslmode = \"verify-full\" looks at; take it away or set that mode"
            )
        });
    }
}

/// What is wrong with a URL, without repeating it: it may have a password.
fn problem_of_url(url: &str) -> Option<String> {
    let Some(rest) = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://")) else {
        return Some("or empty for SQLite; given something else".to_owned());
    };
    let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let named = parameters.split('&').filter_map(|pair| pair.split('=').next()).filter(|key| !key.is_empty());
    // What else there is has a setting of its own, or is not for operators to say.
    if let Some(key) = named.into_iter().find(|key| *key != "host") {
        return Some(format!("with no parameter but `host`; given `{key}`. TLS is set by registry.database.sslmode"));
    }
    let name = place.rsplit_once('/').map(|(_, name)| name);
    name.is_none_or(str::is_empty).then(|| "with the name of a database at its end; given none".to_owned())
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RegistrySettings;

    fn problems(change: impl FnOnce(&mut DatabaseSettings)) -> String {
        let mut settings = RegistrySettings::default().database;
        change(&mut settings);
        let mut checks = Checks::default();
        settings.check(&mut checks);
        checks.finish().err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_url_is_of_postgresql_names_a_database_and_is_never_repeated() {
        for good in ["", "postgres://souk@db/souk", "postgresql://a:b@[::1]:5433/x", "postgres:///x?host=/run/pg"] {
            assert_eq!(problems(|settings| settings.url = good.to_owned().into()), "", "{good}");
        }
        for (bad, told) in [
            ("mysql://u:hunter2@h/x", "given something else"),
            ("postgres://u:hunter2@h", "given none"),
            ("postgres://u:hunter2@h/", "given none"),
            ("postgres://u:hunter2@h/x?sslmode=disable", "`sslmode`"),
            ("postgres://u@h/x?host=/run&password=hunter2", "`password`"),
        ] {
            let text = problems(|settings| settings.url = bad.to_owned().into());
            assert!(text.contains("registry.database.url") && text.contains(told), "{bad}: {text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn the_password_has_one_place_and_is_never_shown() {
        let both = problems(|settings| {
            settings.password = "hunter2".to_owned().into();
            settings.password_file = "/run/secrets/db".into();
            assert!(!format!("{settings:?}").contains("hunter2"));
        });
        assert!(both.contains("are both set, the latter to /run/secrets/db") && !both.contains("hunter2"), "{both}");
        let unused = problems(|settings| {
            settings.sslmode = SslMode::Require;
            settings.root_cert = "/etc/root.crt".into();
        });
        assert!(unused.contains("registry.database.root_cert is /etc/root.crt"), "{unused}");
    }
}
