//! What is asked of a provider: its metadata and keys, which are kept for an hour, and once for each sign-in a token. Every
//! question has a limit of time and every answer one of size; no redirect is followed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::jwk::Jwk;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Client, RequestBuilder};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::id_token::{Expected, IdTokenError, Identity, UserInfo, verify};
use crate::error::RegistryError;
use crate::sign_in::{ProviderSettings, SignInSettings};

/// For a connection to the provider.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// For a whole answer of it.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Largest answer.
const MAX_BYTES: usize = 256 * 1024;
/// Keys of a provider that are looked at.
const MAX_KEYS: usize = 100;
/// How long metadata and keys are used before they are asked for again.
const KEPT: Duration = Duration::from_secs(3600);
/// A provider that gave no answer is not asked again for so long: who waits for it behind others is told at once.
const PAUSE: Duration = Duration::from_secs(5);
/// Keys are asked for again at most this often for a token that names an unknown one.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// The providers of the settings, by name.
pub(crate) struct Providers(BTreeMap<String, Provider>);

/// What a person is told of a provider that cannot be used; the log says more.
const NO_ANSWER: &str = "it does not answer as a provider does";

/// A provider of identities.
pub(super) struct Provider {
    settings: ProviderSettings,
    client: Client,
    kept: Mutex<Kept>,
    /// Held while it is asked for what it says of itself, so that many who sign in at once ask once.
    asking: Mutex<()>,
}

/// What is kept of the answers of a provider.
#[derive(Default)]
struct Kept {
    known: Option<Known>,
    /// When it last gave none that can be used.
    failed_at: Option<Instant>,
}

struct Known {
    metadata: Metadata,
    keys: Vec<Jwk>,
    metadata_at: Instant,
    keys_at: Instant,
}

/// What a provider says of itself (OpenID Connect Discovery).
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Metadata {
    issuer: String,
    pub(super) authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    userinfo_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// Whether who is sent back says from where (RFC 9207).
    #[serde(default)]
    pub(super) authorization_response_iss_parameter_supported: bool,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Tokens {
    access_token: String,
    id_token: String,
}

impl Providers {
    pub(crate) fn new(settings: &SignInSettings) -> Result<Self, reqwest::Error> {
        let made =
            |(name, settings): (&String, &ProviderSettings)| Ok((name.clone(), Provider::new(settings.clone())?));
        Ok(Self(settings.providers.iter().map(made).collect::<Result<_, reqwest::Error>>()?))
    }

    pub(super) fn get(&self, name: &str) -> Result<&Provider, RegistryError> {
        let not_found = || RegistryError::NotFound { what: "provider", name: name.chars().take(80).collect() };
        self.0.get(name).ok_or_else(not_found)
    }
}

impl Provider {
    fn new(settings: ProviderSettings) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .connect_timeout(CONNECT_TIME)
            .timeout(ANSWER_TIME)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("souk/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { settings, client, kept: Mutex::default(), asking: Mutex::default() })
    }

    pub(super) fn issuer(&self) -> &str {
        &self.settings.url
    }

    pub(super) fn client_id(&self) -> &str {
        &self.settings.client_id
    }

    /// What it says of itself, at most an hour old if it answers. One asks at a time, and who knows something goes on with
    /// that meanwhile.
    pub(super) async fn metadata(&self) -> Result<Metadata, RegistryError> {
        let known = self.known().await?;
        let _asking = match (&known, self.asking.try_lock()) {
            (Some((metadata, true)), _) | (Some((metadata, false)), Err(_)) => return Ok(metadata.clone()),
            (_, Ok(asking)) => asking,
            (None, Err(_)) => self.asking.lock().await,
        };
        // Somebody else may have asked meanwhile.
        if let Some((metadata, true)) = self.known().await? {
            return Ok(metadata);
        }
        match self.ask_for_all().await {
            Ok(asked) => {
                let mut kept = self.kept.lock().await;
                kept.failed_at = None;
                Ok(kept.known.insert(asked).metadata.clone())
            }
            Err(error) => {
                let provider = &self.settings.url;
                tracing::warn!(provider, %error, "A provider of identities cannot be asked; what it said last counts");
                self.kept.lock().await.failed_at = Some(Instant::now());
                known.map(|(metadata, _)| metadata).ok_or_else(|| RegistryError::provider(NO_ANSWER))
            }
        }
    }

    /// What it said last, and whether that counts without asking again; `None`: it never said anything.
    async fn known(&self) -> Result<Option<(Metadata, bool)>, RegistryError> {
        let kept = self.kept.lock().await;
        let failed_lately = kept.failed_at.is_some_and(|at| at.elapsed() < PAUSE);
        match &kept.known {
            Some(known) => Ok(Some((known.metadata.clone(), failed_lately || known.metadata_at.elapsed() < KEPT))),
            None if failed_lately => Err(RegistryError::provider(NO_ANSWER)),
            None => Ok(None),
        }
    }

    /// Who the provider means by a code.
    pub(super) async fn identity(
        &self,
        code: &str,
        verifier: &str,
        redirect_uri: &str,
        nonce: &str,
    ) -> Result<Identity, RegistryError> {
        let metadata = self.metadata().await?;
        let tokens = self.tokens(&metadata, code, verifier, redirect_uri).await?;
        let expected =
            Expected { issuer: self.issuer(), client_id: self.client_id(), nonce, access_token: &tokens.access_token };
        let mut verified = verify(&tokens.id_token, &self.keys().await, expected);
        if verified.as_ref().err() == Some(&IdTokenError::UnknownKey) && self.ask_for_keys_again(&metadata).await {
            verified = verify(&tokens.id_token, &self.keys().await, expected);
        }
        let identity = verified.map_err(|error| RegistryError::provider(error.to_string()))?;
        match &metadata.userinfo_endpoint {
            // Some say it there alone.
            Some(endpoint) if identity.known.email.is_none() => {
                let request = self.client.get(endpoint).bearer_auth(&tokens.access_token);
                let said = self.ask::<UserInfo>(request).await.map_err(|error| self.failed("userinfo", &error))?;
                identity.with(said).map_err(|error| RegistryError::provider(error.to_string()))
            }
            _ => Ok(identity),
        }
    }

    async fn tokens(
        &self,
        metadata: &Metadata,
        code: &str,
        verifier: &str,
        redirect_uri: &str,
    ) -> Result<Tokens, RegistryError> {
        let secret = self.secret().await?;
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", verifier),
        ];
        let mut request = self.client.post(&metadata.token_endpoint);
        let takes_basic = metadata
            .token_endpoint_auth_methods_supported
            .as_ref()
            .is_none_or(|methods| methods.iter().any(|method| method == "client_secret_basic"));
        match &secret {
            Some(secret) if takes_basic => {
                let coded = |text: &str| {
                    serde_urlencoded::to_string([(text, "")]).expect("a text").trim_end_matches('=').to_owned()
                };
                let pair = format!("{}:{}", coded(self.client_id()), coded(secret.expose_secret()));
                request = request.header(AUTHORIZATION, format!("Basic {}", STANDARD.encode(pair)));
            }
            Some(secret) => {
                fields.push(("client_id", self.client_id()));
                fields.push(("client_secret", secret.expose_secret()));
            }
            None => fields.push(("client_id", self.client_id())),
        }
        let body = serde_urlencoded::to_string(&fields).expect("pairs of texts");
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body);
        self.ask(request).await.map_err(|error| self.failed("token", &error))
    }

    /// The client's secret, if there is one. A file is read each time, so that it may change.
    async fn secret(&self) -> Result<Option<SecretString>, RegistryError> {
        let file: &Path = &self.settings.client_secret_file;
        if !file.as_os_str().is_empty() {
            let text = tokio::fs::read_to_string(file).await.map_err(|error| {
                tracing::error!(file = %file.display(), %error, "The secret of a provider of identities cannot be read");
                RegistryError::provider("the operator has to look at the log")
            })?;
            return Ok(Some(text.trim().to_owned().into()));
        }
        let secret = &self.settings.client_secret;
        Ok((!secret.expose_secret().is_empty()).then(|| secret.clone()))
    }

    async fn keys(&self) -> Vec<Jwk> {
        self.kept.lock().await.known.as_ref().map(|known| known.keys.clone()).unwrap_or_default()
    }

    /// Asks for the keys, unless that was just done; answers whether it was done now.
    async fn ask_for_keys_again(&self, metadata: &Metadata) -> bool {
        {
            let mut kept = self.kept.lock().await;
            let Some(known) = kept.known.as_mut().filter(|known| known.keys_at.elapsed() >= ASK_AGAIN_AFTER) else {
                return false;
            };
            known.keys_at = Instant::now();
        }
        match self.ask_for_keys(metadata).await {
            Ok(keys) => {
                if let Some(known) = &mut self.kept.lock().await.known {
                    known.keys = keys;
                }
                true
            }
            Err(error) => {
                tracing::warn!(provider = self.settings.url, %error, "The keys of a provider cannot be read");
                false
            }
        }
    }

    async fn ask_for_all(&self) -> Result<Known, String> {
        let address = format!("{}/.well-known/openid-configuration", self.issuer().trim_end_matches('/'));
        let metadata: Metadata = self.ask(self.client.get(address)).await?;
        if metadata.issuer != self.issuer() {
            return Err(format!("it calls itself `{}`", metadata.issuer));
        }
        let endpoints = [&metadata.authorization_endpoint, &metadata.token_endpoint, &metadata.jwks_uri];
        for endpoint in endpoints.into_iter().chain(metadata.userinfo_endpoint.as_ref()) {
            // What the provider itself is reached by was checked at the start.
            let is_plain = self.issuer().starts_with("http:") && endpoint.starts_with("http:");
            if !(endpoint.starts_with("https://") || is_plain) {
                return Err(format!("its endpoint `{endpoint}` has no TLS"));
            }
        }
        let keys = self.ask_for_keys(&metadata).await?;
        Ok(Known { metadata, keys, metadata_at: Instant::now(), keys_at: Instant::now() })
    }

    async fn ask_for_keys(&self, metadata: &Metadata) -> Result<Vec<Jwk>, String> {
        let set: KeySet = self.ask(self.client.get(&metadata.jwks_uri)).await?;
        // Keys of a kind that is not known here are no mistake of the provider's.
        Ok(set.keys.into_iter().take(MAX_KEYS).filter_map(|key| serde_json::from_value(key).ok()).collect())
    }

    async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, String> {
        let failed = |error: reqwest::Error| error.without_url().to_string();
        let mut answer = request.header(ACCEPT, "application/json").send().await.map_err(failed)?;
        let status = answer.status();
        if !status.is_success() {
            return Err(format!("it answers {status}"));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if bytes.len() + chunk.len() > MAX_BYTES {
                return Err(format!("its answer is longer than {MAX_BYTES} bytes"));
            }
            bytes.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&bytes).map_err(|error| format!("its answer is not understood: {error}"))
    }

    /// What the log is told, and what the person.
    fn failed(&self, endpoint: &str, error: &str) -> RegistryError {
        tracing::warn!(provider = self.settings.url, endpoint, error, "A provider of identities refused a sign-in");
        RegistryError::provider(format!("its {endpoint} endpoint did not answer as it should"))
    }
}
