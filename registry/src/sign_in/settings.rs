//! How people sign in: the section `[sign_in]` of the settings.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};
use souk_http::cors::Origin;
use souk_http::public_url::is_this_machine;
use souk_protocol::settings::{self, Checks, seconds};

/// Seconds of a day.
const DAY_S: u64 = 24 * 3600;
/// Providers of one installation.
const MAX_PROVIDERS: usize = 32;

/// The section `[sign_in]` of the settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignInSettings {
    /// Whether a link alone signs in.
    pub links: bool,
    /// How long such a link can be used.
    #[serde(rename = "link_s", deserialize_with = "seconds::deserialize")]
    pub link: Duration,
    /// How long an invitation can be used.
    #[serde(rename = "invitation_s", deserialize_with = "seconds::deserialize")]
    pub invitation: Duration,
    /// How long a session may go without a request.
    #[serde(rename = "session_idle_s", deserialize_with = "seconds::deserialize")]
    pub session_idle: Duration,
    /// How long a session lives in any case.
    #[serde(rename = "session_s", deserialize_with = "seconds::deserialize")]
    pub session: Duration,
    /// Days that a key of `souk login` lives.
    pub key_days: u32,
    /// Days that sessions and the addresses of invitations are kept after they are over.
    pub over_kept_days: u32,
    /// How often one address may try something with a secret, in a minute.
    pub attempts_per_minute: u32,
    /// Who says who a person is, by name.
    pub providers: BTreeMap<String, ProviderSettings>,
}

/// A provider of identities.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderSettings {
    /// What people read; empty: the name.
    #[serde(default)]
    pub title: String,
    /// The issuer, as the provider writes it.
    pub url: String,
    /// What the provider knows this installation by.
    pub client_id: String,
    /// The secret that goes with it; empty: it is in a file, or there is none.
    #[serde(default, deserialize_with = "secret")]
    pub client_secret: SecretString,
    /// The file of the secret; empty: none.
    #[serde(default)]
    pub client_secret_file: PathBuf,
}

impl Default for SignInSettings {
    fn default() -> Self {
        settings::defaults("sign_in")
    }
}

impl SignInSettings {
    /// Says which of them cannot be used.
    pub fn check(&self, checks: &mut Checks) {
        checks.within("sign_in.link_s", self.link.as_secs(), 60..=30 * DAY_S);
        checks.within("sign_in.invitation_s", self.invitation.as_secs(), 60..=365 * DAY_S);
        checks.within("sign_in.session_idle_s", self.session_idle.as_secs(), 60..=365 * DAY_S);
        checks.within("sign_in.session_s", self.session.as_secs(), 60..=365 * DAY_S);
        checks.within("sign_in.key_days", self.key_days, 1..=3650);
        checks.within("sign_in.over_kept_days", self.over_kept_days, 1..=3650);
        checks.within("sign_in.attempts_per_minute", self.attempts_per_minute, 1..=1_000_000);
        checks.within("the number of sign_in.providers", self.providers.len(), 0..=MAX_PROVIDERS);
        for (name, provider) in &self.providers {
            let is_name = (1..=32).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
            checks.rule(is_name, || format!("sign_in.providers has names of 1 to 32 of a-z, 0-9, -; given `{name}`"));
            provider.check(&format!("sign_in.providers.{name}"), checks);
        }
    }

    /// Milliseconds without use after which a session is over.
    pub(crate) fn idle_ms(&self) -> i64 {
        i64::try_from(self.session_idle.as_millis()).unwrap_or(i64::MAX / 2)
    }

    /// How long sessions and the addresses of invitations are kept after they are over: longer than tokens live.
    pub(crate) fn over_kept(&self) -> Duration {
        Duration::from_secs(u64::from(self.over_kept_days) * DAY_S)
    }

    /// How long a key of `souk login` lives.
    #[must_use]
    pub fn key_lives(&self) -> Duration {
        Duration::from_secs(u64::from(self.key_days) * DAY_S)
    }
}

impl ProviderSettings {
    fn check(&self, key: &str, checks: &mut Checks) {
        if let Err(told) = check_issuer(&self.url) {
            checks.rule(false, || format!("{key}.url {told}; given `{}`", self.url));
        }
        checks.rule(!self.client_id.is_empty(), || format!("{key}.client_id must not be empty"));
        let (text, file) = (self.client_secret.expose_secret(), &self.client_secret_file);
        checks.rule(text.is_empty() || file.as_os_str().is_empty(), || {
            let file = file.display();
            format!(
                "{key}.client_secret and {key}.client_secret_file are both set, the latter to {file}; set one of them"
            )
        });
    }

    /// What people read.
    #[must_use]
    pub fn title<'a>(&'a self, name: &'a str) -> &'a str {
        if self.title.is_empty() { name } else { &self.title }
    }
}

/// An issuer is an address with TLS, or on this machine, and has neither a query nor a fragment.
fn check_issuer(url: &str) -> Result<(), String> {
    let (scheme, rest) = url.split_once("://").ok_or("must begin with https://")?;
    let authority = rest.split('/').next().unwrap_or_default();
    Origin::parse(&format!("{scheme}://{authority}"))
        .map_err(|error| format!("must be an address: {}", error.reason()))?;
    let host = if authority.starts_with('[') {
        authority.split_inclusive(']').next().unwrap_or_default()
    } else {
        authority.split(':').next().unwrap_or_default()
    };
    if scheme != "https" && !(scheme == "http" && is_this_machine(host)) {
        return Err("must begin with https://, or with http:// and a host of this machine".to_owned());
    }
    if url.contains(['?', '#', ' ', '\\']) {
        return Err("must have neither a query nor a fragment".to_owned());
    }
    Ok(())
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(name: &str, provider: ProviderSettings) -> Option<String> {
        let providers = [(name.to_owned(), provider)].into();
        let mut checks = Checks::default();
        SignInSettings { providers, ..SignInSettings::default() }.check(&mut checks);
        checks.finish().err().map(|error| error.to_string())
    }

    fn provider(url: &str) -> ProviderSettings {
        ProviderSettings {
            title: String::new(),
            url: url.to_owned(),
            client_id: "souk".to_owned(),
            client_secret: SecretString::default(),
            client_secret_file: PathBuf::new(),
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_page_and_can_be_used() {
        let mut checks = Checks::default();
        SignInSettings::default().check(&mut checks);
        assert_eq!(checks.finish(), Ok(()));
    }

    #[test]
    fn a_provider_is_an_address_with_tls_or_of_this_machine() {
        for good in [
            "https://login.example.com",
            "https://login.example.com/realms/souk",
            "http://127.0.0.1:9400",
            "http://[::1]:9400/x",
            "http://localhost:1",
        ] {
            assert_eq!(problems("a", provider(good)), None, "{good}");
        }
        for bad in [
            "",
            "login.example.com",
            "http://login.example.com",
            "https://login.example.com?x=1",
            "ftp://localhost",
            "http://localhost.example.com/",
        ] {
            let told = problems("a", provider(bad)).unwrap();
            assert!(
                told.contains("sign_in.providers.a.url must") && told.contains(&format!("given `{bad}`")),
                "{told}"
            );
        }
    }

    #[test]
    fn a_name_is_part_of_an_address_and_a_secret_has_one_place_and_is_never_shown() {
        assert!(problems("A b", provider("https://a.example")).unwrap().contains("given `A b`"));
        let mut both = provider("https://a.example");
        both.client_secret = "hush".into();
        assert!(!format!("{both:?}").contains("hush"));
        both.client_secret_file = "/run/secrets/oidc".into();
        assert!(problems("a", both).unwrap().contains("are both set, the latter to /run/secrets/oidc"));
        let nobody = ProviderSettings { client_id: String::new(), ..provider("https://a.example") };
        assert!(problems("a", nobody).unwrap().contains("sign_in.providers.a.client_id must not be empty"));
    }
}
