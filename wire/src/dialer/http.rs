//! Streams over HTTP/2: the request's body goes up, the answer's comes down.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Body, Certificate, Client, ClientBuilder, Identity, Response, StatusCode, redirect};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::mpsc;

use super::dial::{Dial, DialError, Dialled, TokenSource};
use crate::receiver::PATH;
use crate::settings::{SettingsError, WireSettings};

/// Frames on their way into a request's body. Few: what waits is counted before it.
const FRAMES_AHEAD: usize = 2;
/// Longest text of a gateway that is told in an error.
const TOLD_BYTES: usize = 300;

/// Dials over HTTP/2, by prior knowledge or by TLS's agreement.
pub struct HttpDial {
    files: Files,
    /// What the files held when they could be used last.
    last_good: Mutex<Certificates>,
    tokens: Arc<dyn TokenSource>,
    timeout: Duration,
}

/// Where the certificates are.
#[derive(Clone)]
struct Files {
    root_cert: PathBuf,
    client_cert: PathBuf,
}

/// What a node trusts beside the system's authorities, and what it shows.
#[derive(Clone)]
struct Certificates {
    roots: Vec<Certificate>,
    identity: Option<Identity>,
}

impl HttpDial {
    /// Reads the certificates; nothing is dialled yet.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn new(settings: &WireSettings, tokens: Arc<dyn TokenSource>) -> Result<Self, SettingsError> {
        let files = Files { root_cert: settings.root_cert.clone(), client_cert: settings.client_cert.clone() };
        let certificates = files.read()?;
        // That it can be had is known before it is needed.
        client(&certificates, settings.dial_timeout).build().map_err(SettingsError::Client)?;
        Ok(Self { files, last_good: Mutex::new(certificates), tokens, timeout: settings.dial_timeout })
    }

    /// The certificates as the files are now. Those that cannot be used, as one that is half written, leave the last.
    async fn certificates(&self) -> Certificates {
        let files = self.files.clone();
        let read = tokio::task::spawn_blocking(move || files.read()).await;
        let mut last_good = self.last_good.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(Ok(certificates)) => *last_good = certificates,
            Ok(Err(error)) => tracing::error!(%error, "New certificates cannot be used; the old ones stay"),
            Err(error) => tracing::error!(%error, "Certificates were not read; the old ones stay"),
        }
        last_good.clone()
    }

    async fn send(&self, url: &str, hello: &Bytes, token: &SecretString) -> Result<Dialled, Failure> {
        let client = client(&self.certificates().await, self.timeout).build().map_err(|error| Failure::away(&error))?;
        let (up, frames) = mpsc::channel::<Bytes>(FRAMES_AHEAD);
        let frames = stream::unfold(frames, |mut frames| async { Some((frames.recv().await?, frames)) });
        let body = stream::once(std::future::ready(hello.clone())).chain(frames).map(Ok::<_, std::io::Error>);
        let request = client
            .post(url)
            .bearer_auth(token.expose_secret())
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(Body::wrap_stream(body));
        let response = request.send().await.map_err(|error| Failure::away(&error))?;
        match response.status() {
            StatusCode::OK => {
                let down = response.bytes_stream().map(|piece| piece.map_err(|error| cause_of(&error))).boxed();
                Ok(Dialled { up, down })
            }
            StatusCode::UNAUTHORIZED => Err(Failure::Token(told_by(response).await)),
            // What is short now may be there later.
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                Err(Failure::Dial(DialError::Away(told_by(response).await)))
            }
            _ => Err(Failure::Dial(DialError::Refused(told_by(response).await))),
        }
    }
}

#[async_trait]
impl Dial for HttpDial {
    async fn dial(&self, address: &str, hello: Bytes) -> Result<Dialled, DialError> {
        let url = format!("{}{PATH}", address.trim_end_matches('/'));
        let token = self.tokens.token(None).await.map_err(DialError::Away)?;
        match self.send(&url, &hello, &token).await {
            // Over by that gateway's clock, or signed with a key that is gone.
            Err(Failure::Token(_)) => {
                let token = self.tokens.token(Some(&token)).await.map_err(DialError::Away)?;
                self.send(&url, &hello, &token).await.map_err(Failure::into_dial)
            }
            other => other.map_err(Failure::into_dial),
        }
    }
}

impl Files {
    fn read(&self) -> Result<Certificates, SettingsError> {
        let roots = read("wire.root_cert", &self.root_cert, |pem| {
            let found = Certificate::from_pem_bundle(pem).map_err(|error| error.to_string())?;
            if found.is_empty() { Err("it has no certificate".to_owned()) } else { Ok(found) }
        })?;
        let identity = read("wire.client_cert", &self.client_cert, |pem| {
            Identity::from_pem(pem).map_err(|error| error.to_string())
        })?;
        Ok(Certificates { roots: roots.unwrap_or_default(), identity })
    }
}

/// A client of its own for each stream: one that is kept would go on using a connection that is dead and does not say so.
fn client(certificates: &Certificates, timeout: Duration) -> ClientBuilder {
    let client = Client::builder()
        .http2_prior_knowledge()
        .connect_timeout(timeout)
        // A token goes along, which is for whom it is meant.
        .redirect(redirect::Policy::none())
        .no_proxy()
        .tls_certs_merge(certificates.roots.clone());
    match &certificates.identity {
        Some(identity) => client.identity(identity.clone()),
        None => client,
    }
}

/// How a try failed.
enum Failure {
    Token(String),
    Dial(DialError),
}

impl Failure {
    fn away(error: &reqwest::Error) -> Self {
        Self::Dial(DialError::Away(cause_of(error)))
    }

    fn into_dial(self) -> DialError {
        match self {
            Self::Token(told) => DialError::Refused(told),
            Self::Dial(error) => error,
        }
    }
}

/// The innermost cause, which says what the error alone does not: refused, no such host, a certificate that is not trusted.
fn cause_of(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it does not answer in time".to_owned();
    }
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.last().map_or_else(|| error.to_string(), ToString::to_string)
}

/// What an answer that is no stream says: a problem as its code and its detail, anything else as it is.
async fn told_by(response: Response) -> String {
    #[derive(serde::Deserialize)]
    struct Problem {
        code: String,
        detail: String,
    }
    let status = response.status();
    let body = response.text().await.unwrap_or_default();
    let told = serde_json::from_str(&body).map_or(body, |Problem { code, detail }| format!("{code}: {detail}"));
    let told = &told[..told.floor_char_boundary(TOLD_BYTES)];
    format!("it answers {status}: {told}")
}

/// What a file of the settings holds; `None` where none is named.
fn read<T>(
    setting: &'static str,
    path: &Path,
    parse: impl FnOnce(&[u8]) -> Result<T, String>,
) -> Result<Option<T>, SettingsError> {
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let failed = |cause: String| SettingsError::Certificates { setting, path: path.to_owned(), cause };
    let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    parse(&pem).map(Some).map_err(failed)
}
