//! The registries of the installation as they are asked: one after the other until one answers. All questions are reads,
//! or writes that count once however often they are asked, so each may be asked twice. Who cannot be reached is left alone for a little while.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt as _;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use souk_protocol::gate::Refusal;
use souk_protocol::internal::{NewToken, PREFIX};
use tokio::time::Instant;

use crate::clients::Clients;
use crate::metrics;
use crate::service_token::{ServiceToken, Token};
use crate::settings::{Settings, SettingsError, address};

/// How long a registry has for an answer about rights. What it says is that old at most when it is heard.
pub(crate) const ANSWER_TIME: Duration = Duration::from_secs(1);
/// How long who cannot be reached is left alone; it doubles with each further failure, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Longest text of a registry that is told in an error.
const TOLD_BYTES: usize = 300;

/// The registries. Clones are the same.
#[derive(Clone)]
pub struct Registries(Arc<Shared>);

struct Shared {
    clients: Clients,
    peers: Vec<Peer>,
    /// The one that answered last, which is asked first.
    first: AtomicUsize,
    token: ServiceToken,
    /// See [`Settings::section`].
    section: &'static str,
}

/// One of them.
struct Peer {
    url: Url,
    reach: Mutex<Reach>,
}

/// Whether it can be reached, as far as is known.
#[derive(Default)]
struct Reach {
    num_failures: u32,
    /// When it may be asked again.
    paused_until: Option<Instant>,
}

/// What was answered.
pub(crate) struct Answered<A> {
    pub(crate) answer: A,
    /// When the one who answered was asked.
    pub(crate) asked_at: Instant,
}

/// No registry answered. Says what was tried.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no registry answers: {}", .0.join("; "))]
pub struct AskError(Arc<[String]>);

impl AskError {
    /// Too much is asked for the same tenant, or by all.
    pub(crate) fn no_turn(refusal: Refusal) -> Self {
        Self([format!("none was asked, since so much is: {refusal}")].into())
    }

    #[cfg(test)]
    pub(crate) fn nobody() -> Self {
        Self([].into())
    }
}

/// Why one of them did not answer.
pub(crate) enum Failure {
    /// It cannot be reached, or is silent.
    Away(String),
    /// It answers, and not this.
    Refuses(StatusCode, String),
}

impl Registries {
    /// Sets up the client; nothing is asked yet.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let peers = settings.addresses.iter().map(|given| {
            let url = address(settings.section, given)?;
            Ok(Peer { url, reach: Mutex::default() })
        });
        let peers = peers.collect::<Result<Vec<_>, SettingsError>>()?;
        if peers.is_empty() {
            return Err(SettingsError::NoRegistry { section: settings.section });
        }
        let clients = Clients::new(settings)?;
        // Not all gateways begin with the same one.
        let first = AtomicUsize::new(rand::rng().random_range(0..peers.len()));
        let token = ServiceToken::new(settings.key.clone());
        Ok(Self(Arc::new(Shared { clients, peers, first, token, section: settings.section })))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.peers.len()
    }

    /// Who issues tokens, once a registry has said so.
    pub(crate) fn issuer(&self) -> Option<String> {
        self.0.token.issuer()
    }

    /// The answer of whichever registry answers first, each having as long as `patience`.
    pub(crate) async fn ask<A: DeserializeOwned>(
        &self,
        path: &str,
        question: &(impl Serialize + Sync),
        patience: Duration,
    ) -> Result<Answered<A>, AskError> {
        let body = Bytes::from(serde_json::to_vec(question).expect("questions are JSON"));
        let (path, body) = (&format!("{PREFIX}/{path}"), &body);
        self.first_of(move |number| async move {
            let asked_at = Instant::now();
            let request = |http: &Client, url| {
                http.post(url).header(CONTENT_TYPE, "application/json").body(body.clone()).timeout(patience)
            };
            let response = self.send(number, path, request).await?;
            let answer = response.json().await.map_err(|error| Failure::of(&error))?;
            Ok(Answered { answer, asked_at })
        })
        .await
    }

    /// The same for what a registry may refuse for good, whoever is asked, with one of these codes: then it is what that says of
    /// it. Any other refusal may be that registry's alone, such as of a field that it does not know yet.
    pub(crate) async fn tell<A: DeserializeOwned>(
        &self,
        path: &str,
        question: &(impl Serialize + Sync),
        patience: Duration,
        for_good: &[&str],
    ) -> Result<Result<A, String>, AskError> {
        let body = Bytes::from(serde_json::to_vec(question).expect("questions are JSON"));
        let (path, body) = (&format!("{PREFIX}/{path}"), &body);
        self.first_of(move |number| async move {
            let request = |http: &Client, url| {
                http.post(url).header(CONTENT_TYPE, "application/json").body(body.clone()).timeout(patience)
            };
            match self.send(number, path, request).await {
                Ok(response) => response.json().await.map(Ok).map_err(|error| Failure::of(&error)),
                Err(Failure::Refuses(StatusCode::BAD_REQUEST, told)) if has_code(&told, for_good) => Ok(Err(told)),
                Err(failure) => Err(failure),
            }
        })
        .await
    }

    /// What a registry publishes for everybody.
    pub(crate) async fn published<A: DeserializeOwned>(&self, path: &str) -> Result<A, AskError> {
        self.first_of(move |number| async move {
            let request = self.0.clients.registries().get(self.url(number, path)).timeout(ANSWER_TIME);
            let response = accepted(request).await?;
            response.json().await.map_err(|error| Failure::of(&error))
        })
        .await
    }

    /// Tries one after the other; the one that answers is tried first from now on.
    pub(crate) async fn first_of<A, F>(&self, ask: impl Fn(usize) -> F) -> Result<A, AskError>
    where
        F: Future<Output = Result<A, Failure>>,
    {
        let mut tried = Vec::new();
        let first = self.0.first.load(Ordering::Relaxed);
        for number in (0..self.len()).map(|step| (first + step) % self.len()) {
            let peer = &self.0.peers[number];
            if let Some(left) = peer.pause() {
                tried.push(format!("{} could not be reached and is left alone for {left:?}", peer.url));
                continue;
            }
            match ask(number).await {
                Ok(answer) => {
                    peer.answered();
                    self.0.first.store(number, Ordering::Relaxed);
                    metrics::asked(if tried.is_empty() { "answered" } else { "answered_by_another" });
                    return Ok(answer);
                }
                Err(failure) => {
                    peer.failed(&failure);
                    tried.push(format!("{} {failure}", peer.url));
                }
            }
        }
        metrics::asked("failed");
        Err(AskError(tried.into()))
    }

    /// Sends a request with this service's token to one of them. An address to read at instead counts as an answer.
    pub(crate) async fn send(
        &self,
        number: usize,
        path: &str,
        request: impl Fn(&Client, Url) -> RequestBuilder + Sync,
    ) -> Result<Response, Failure> {
        let url = self.url(number, path);
        let token = self.0.token.get(None, self.exchange(number)).await?;
        let with = |token: &Token| request(&self.0.clients.registries(), url.clone()).bearer_auth(&token.text);
        match accepted(with(&token)).await {
            // Revoked, over by that registry's clock, or signed with a key that is gone.
            Err(Failure::Refuses(StatusCode::UNAUTHORIZED, _)) => {
                let renewed = self.0.token.get(Some(&token), self.exchange(number)).await?;
                accepted(with(&renewed)).await
            }
            other => other,
        }
    }

    /// Reads at an address that a registry has given, without this service's token.
    pub(crate) async fn read_at(
        &self,
        address: Url,
        request: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Failure> {
        accepted(request(self.0.clients.elsewhere().get(address))).await
    }

    /// This service's token, which other services of the installation take too. `refused`: one that somebody did not take,
    /// so that another is asked for.
    ///
    /// # Errors
    /// If no registry answers, or none takes the key.
    pub async fn service_token(&self, refused: Option<&str>) -> Result<SecretString, AskError> {
        let known = self.0.token.current();
        let refused = known.filter(|known| refused == Some(known.text.as_str()));
        let refused = refused.as_ref();
        self.first_of(move |number| async move {
            let token = self.0.token.get(refused, self.exchange(number)).await?;
            Ok(SecretString::from(token.text.clone()))
        })
        .await
    }

    /// Exchanges this gateway's key at one of them.
    async fn exchange(&self, number: usize) -> Result<Token, Failure> {
        self.0.clients.renew();
        let asked_at = Instant::now();
        let unreadable =
            |error| Failure::Away(format!("cannot be called: {}.registry_key_file: {error}", self.0.section));
        let key = self.0.token.key.read().await.map_err(unreadable)?;
        let url = self.url(number, &format!("{PREFIX}/token"));
        let request = self.0.clients.registries().post(url).bearer_auth(key.expose_secret()).timeout(ANSWER_TIME);
        let response = accepted(request).await.inspect_err(|failure| {
            if matches!(failure, Failure::Refuses(StatusCode::UNAUTHORIZED, _)) {
                let section = self.0.section;
                tracing::error!("A registry does not take {section}.registry_key: it {failure}");
            }
        })?;
        let new: NewToken = response.json().await.map_err(|error| Failure::of(&error))?;
        Ok(Token::new(new.access_token, new.issuer, Duration::from_secs(new.expires_in), asked_at))
    }

    fn url(&self, number: usize, path: &str) -> Url {
        let mut url = self.0.peers[number].url.clone();
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        url.set_path(path);
        url.set_query(query);
        url
    }
}

/// Sends a request; anything but a success is a failure.
async fn accepted(request: RequestBuilder) -> Result<Response, Failure> {
    let response = request.send().await.map_err(|error| Failure::of(&error))?;
    let status = response.status();
    if status.is_success() || status == StatusCode::TEMPORARY_REDIRECT {
        return Ok(response);
    }
    let told = told_by(response.text().await.unwrap_or_default());
    Err(Failure::Refuses(status, told.chars().take(TOLD_BYTES).collect()))
}

/// A problem as its code and what it says, anything else as it is.
fn told_by(body: String) -> String {
    #[derive(serde::Deserialize)]
    struct Problem {
        code: String,
        detail: String,
    }
    match serde_json::from_str(&body) {
        Ok(Problem { code, detail }) => format!("{code}: {detail}"),
        Err(_) => body,
    }
}

/// Whether what was told is a problem with one of these codes.
fn has_code(told: &str, codes: &[&str]) -> bool {
    told.split_once(": ").is_some_and(|(code, _)| codes.contains(&code))
}

impl Failure {
    pub(crate) fn of(error: &reqwest::Error) -> Self {
        // The cause says what the error alone does not: refused, no such host, a certificate that is not trusted.
        let mut told = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            told = inner.to_string();
            cause = inner.source();
        }
        Self::Away(if error.is_timeout() { "does not answer in time".to_owned() } else { format!("fails: {told}") })
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Away(told) => f.write_str(told),
            Self::Refuses(status, told) => write!(f, "answers {status}: {told}"),
        }
    }
}

impl Peer {
    /// How long it is still left alone. Who hears `None` is the one who finds out for all others.
    fn pause(&self) -> Option<Duration> {
        let (mut reach, now) = (self.lock(), Instant::now());
        let left = reach.paused_until?.checked_duration_since(now).filter(|left| !left.is_zero());
        if left.is_none() {
            reach.paused_until = Some(now + pause_after(reach.num_failures));
        }
        left
    }

    fn answered(&self) {
        let mut reach = self.lock();
        if reach.num_failures > 0 {
            tracing::info!(registry = %self.url, "The registry {} answers again", self.url);
        }
        *reach = Reach::default();
    }

    /// Leaves it alone for a while if it is away. One that answers with an error may answer the next question.
    fn failed(&self, failure: &Failure) {
        let Failure::Away(told) = failure else { return };
        let mut reach = self.lock();
        if reach.num_failures == 0 {
            tracing::warn!(registry = %self.url, "The registry {} {told}", self.url);
        }
        reach.num_failures += 1;
        reach.paused_until = Some(Instant::now() + pause_after(reach.num_failures));
    }

    fn lock(&self) -> MutexGuard<'_, Reach> {
        self.reach.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pause_after(num_failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << num_failures.saturating_sub(1).min(10)).min(LONGEST_PAUSE)
}
