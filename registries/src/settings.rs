//! Which registries there are, and how they are reached.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use souk_protocol::KeyId;

/// What is known of the installation's registries at the start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The section of the settings that this is from, for what is told: `gateway` or `node`.
    pub section: &'static str,
    /// Their addresses, as `http://10.0.0.5:8081`: the ports of operators.
    pub addresses: Vec<String>,
    /// A file of certificates (PEM) of authorities that are trusted beside the system's.
    pub root_cert: Option<PathBuf>,
    /// A file with the certificates and the key (PEM) that is shown to registries which ask for one.
    pub client_cert: Option<PathBuf>,
    /// What is exchanged for tokens.
    pub key: KeySource,
    /// How long what is known of rights is believed, since it was confirmed last, while no registry answers.
    pub stale: Duration,
    /// The id in what a caller presents, if it has the shape of a key; anything else is refused without being asked for.
    pub id_of_key: fn(&str) -> Option<KeyId>,
}

/// Where the service's own key is.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// Here.
    Text(SecretString),
    /// In a file, which is read at each exchange, so that another key can take its place.
    File(PathBuf),
}

/// Settings with which no registry can be reached.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// There is none.
    #[error("{section}.registries names no registry")]
    NoRegistry {
        /// See [`Settings::section`].
        section: &'static str,
    },
    /// An address is none.
    #[error("{section}.registries: `{given}` is not an address such as http://10.0.0.5:8081: {reason}")]
    Address {
        /// See [`Settings::section`].
        section: &'static str,
        /// As it was given.
        given: String,
        /// What is wrong.
        reason: String,
    },
    /// The certificates cannot be read.
    #[error("{section}.{key} {path} cannot be read: {cause}")]
    Certificates {
        /// See [`Settings::section`].
        section: &'static str,
        /// `registries_root_cert` or `registries_client_cert`.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// The HTTP client cannot be set up.
    #[error("the client for registries cannot be set up")]
    Client(#[source] reqwest::Error),
}

/// Reads an address: scheme, host and port, without a path.
pub(crate) fn address(section: &'static str, given: &str) -> Result<Url, SettingsError> {
    let failed = |reason: &str| SettingsError::Address { section, given: given.to_owned(), reason: reason.to_owned() };
    let url = Url::parse(given).map_err(|error| failed(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(failed("it begins with http:// or https://"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(failed("it needs a host"));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(failed("it ends after the host or the port"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(failed("it has no user: a service shows the key that its registry_key names"));
    }
    Ok(url)
}

impl KeySource {
    /// The key as it is now.
    pub(crate) async fn read(&self) -> io::Result<SecretString> {
        match self {
            Self::Text(key) => Ok(key.clone()),
            Self::File(path) => {
                let text = SecretString::from(tokio::fs::read_to_string(path).await?);
                Ok(SecretString::from(text.expose_secret().trim().to_owned()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_is_a_scheme_a_host_and_a_port() {
        for good in ["http://127.0.0.1:8081", "https://registry.internal", "http://[::1]:80/"] {
            assert!(address("gateway", good).is_ok(), "{good}");
        }
        for (bad, reason) in [
            ("127.0.0.1:8081", "`127.0.0.1:8081`"),
            ("ftp://host", "begins with http"),
            ("http://host/registry/v1", "ends after the host"),
            ("http://host?x=1", "ends after the host"),
            ("http://user:secret@host", "has no user"),
        ] {
            let told = address("gateway", bad).unwrap_err().to_string();
            assert!(told.contains("gateway.registries") && told.contains(reason), "{told}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "(https?://)?\\PC{0,40}") {
            if let Ok(url) = address("node", &text) {
                prop_assert!(url.host_str().is_some() && url.path() == "/");
            }
        }
    }
}
