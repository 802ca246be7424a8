//! One try of one delivery: a POST that ends in time, goes to no address that it may not, follows no redirect, and reads no
//! more of the answer than is kept.

use std::error::Error as _;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Response, StatusCode, Url, redirect, retry};

use super::address::{AddressRefused, Reachable};
use super::settings::WebhookSettings;

/// Sends.
pub(super) struct Sender {
    client: Client,
    reachable: Reachable,
    allow_http: bool,
    max_answer_bytes: usize,
}

/// What is sent.
pub(super) struct Message<'a> {
    pub(super) url: &'a str,
    pub(super) id: &'a str,
    pub(super) at_s: u64,
    pub(super) signature: &'a str,
    pub(super) body: String,
}

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The answer's status, if there was one.
    pub(super) status: Option<u16>,
    /// What the answer's body begins with.
    pub(super) excerpt: Option<String>,
    /// Why it counts as failed; `None` for a success.
    pub(super) failure: Option<Failure>,
}

/// Why a try failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The answer's status is none of 2xx.
    NotSuccess,
    /// The answer leads elsewhere; only what the owner has written down is called.
    Redirect,
    /// The name or address is not public.
    AddressRefused,
    /// `http://`, which the operator does not allow any more.
    HttpRefused,
    /// There was no connection, or no TLS that can be trusted.
    Unreachable,
    /// No answer in time.
    TimedOut,
    /// The connection broke before an answer.
    BrokenOff,
    /// The endpoint's secret is under a sealing key that this registry does not have.
    NoSecret,
}

impl Failure {
    /// As the API says it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::NotSuccess => "not_success",
            Self::Redirect => "redirect_not_followed",
            Self::AddressRefused => "address_refused",
            Self::HttpRefused => "http_refused",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
            Self::BrokenOff => "broken_off",
            Self::NoSecret => "no_secret",
        }
    }
}

impl Outcome {
    pub(super) fn failed(failure: Failure) -> Self {
        Self { status: None, excerpt: None, failure: Some(failure) }
    }
}

impl Sender {
    /// # Errors
    /// If the client's TLS cannot be set up.
    pub(super) fn new(settings: &WebhookSettings) -> Result<Self, reqwest::Error> {
        let reachable = Reachable::new(settings.allowed_networks.clone());
        let client = Client::builder()
            .user_agent(concat!("souk/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .referer(false)
            // A proxy of the environment would connect to what this must not.
            .no_proxy()
            .retry(retry::never())
            .connect_timeout(settings.connect_timeout)
            .timeout(settings.timeout)
            .dns_resolver(std::sync::Arc::new(reachable.clone()))
            .build()?;
        let WebhookSettings { allow_http, max_answer_bytes, .. } = *settings;
        Ok(Self { client, reachable, allow_http, max_answer_bytes })
    }

    pub(super) async fn send(&self, message: Message<'_>) -> Outcome {
        let Ok(url) = Url::parse(message.url) else { return Outcome::failed(Failure::Unreachable) };
        if url.scheme() != "https" && !self.allow_http {
            return Outcome::failed(Failure::HttpRefused);
        }
        if self.reachable.check_host(url.host_str().unwrap_or_default()).is_err() {
            return Outcome::failed(Failure::AddressRefused);
        }
        let request = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", message.id)
            .header("webhook-timestamp", message.at_s)
            .header("webhook-signature", message.signature)
            .body(message.body);
        match request.send().await {
            Ok(answer) => self.read(answer).await,
            Err(error) => Outcome::failed(failure_of(&error)),
        }
    }

    async fn read(&self, mut answer: Response) -> Outcome {
        let status = answer.status();
        let failure = match status {
            status if status.is_success() => None,
            status if status.is_redirection() && status != StatusCode::NOT_MODIFIED => Some(Failure::Redirect),
            _ => Some(Failure::NotSuccess),
        };
        let mut bytes = Vec::new();
        // The status has been given; a body that breaks off or comes too late takes nothing from it.
        while bytes.len() < self.max_answer_bytes
            && let Ok(Some(piece)) = answer.chunk().await
        {
            bytes.extend_from_slice(&piece[..piece.len().min(self.max_answer_bytes - bytes.len())]);
        }
        Outcome { status: Some(status.as_u16()), excerpt: (!bytes.is_empty()).then(|| readable(&bytes)), failure }
    }
}

/// The bytes of a stranger as text that a terminal and a database can take.
fn readable(bytes: &[u8]) -> String {
    let plain = |character: char| if character.is_control() && character != '\n' { '\u{fffd}' } else { character };
    String::from_utf8_lossy(bytes).chars().map(plain).collect()
}

fn failure_of(error: &reqwest::Error) -> Failure {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.downcast_ref::<AddressRefused>().is_some() {
            return Failure::AddressRefused;
        }
        cause = error.source();
    }
    if error.is_timeout() {
        Failure::TimedOut
    } else if error.is_connect() {
        Failure::Unreachable
    } else {
        Failure::BrokenOff
    }
}
