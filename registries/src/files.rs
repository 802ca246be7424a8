//! Files of adapters from registries, by digest and with the grant for their version. A registry may say where a file can be
//! read without it; where that fails, the registry itself hands it out. A transfer that breaks off goes on at the next
//! registry; who reads compares the whole with the digest.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt as _, try_unfold};
use reqwest::header::{LOCATION, RANGE};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use souk_protocol::internal::{GRANT_HEADER, PREFIX};
use souk_protocol::{Digest, FileGrant};
use tokio::io::AsyncRead;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tokio_util::io::StreamReader;

use crate::registries::{Failure, Registries};

/// How long a file may bring nothing.
const STALL_TIME: Duration = Duration::from_secs(10);
/// Between two tries while no registry answers.
const PAUSE: Duration = Duration::from_millis(300);
/// How often a transfer may break off.
const MAX_TRIES: u32 = 8;

/// The bytes of a file, in order.
pub type FileReader = Pin<Box<dyn AsyncRead + Send>>;

/// Bytes as they come.
type Body = BoxStream<'static, reqwest::Result<Bytes>>;

/// Which file is wanted, and how.
struct Wanted {
    digest: Digest,
    grant: FileGrant,
    /// It may come from where the registry keeps it.
    direct: AtomicBool,
}

/// A file that is being read.
struct Reading {
    registries: Registries,
    wanted: Wanted,
    /// How much has come.
    offset: u64,
    body: Body,
    tries_left: u32,
}

impl Registries {
    /// Opens a file of the version that the grant is for; `None`: there is none. `direct`: it may be read where the registry
    /// keeps it, at an address that the registry gives.
    ///
    /// # Errors
    /// `PermissionDenied`, with the registry's reason, if the grant does not open the file; any other if no registry answers.
    pub async fn open(&self, digest: &Digest, grant: &FileGrant, direct: bool) -> io::Result<Option<FileReader>> {
        let wanted = Wanted { digest: *digest, grant: grant.clone(), direct: AtomicBool::new(direct) };
        let Some(body) = self.body_from(&wanted, 0).await? else { return Ok(None) };
        let registries = self.clone();
        let reading = Reading { registries, wanted, offset: 0, body, tries_left: MAX_TRIES - 1 };
        Ok(Some(Box::pin(StreamReader::new(Box::pin(try_unfold(reading, Reading::next))))))
    }

    async fn body_from(&self, wanted: &Wanted, offset: u64) -> io::Result<Option<Body>> {
        let opened = self.first_of(|number| async move {
            match self.opened(number, wanted, offset).await {
                // Another registry would say the same.
                Err(Failure::Refuses(StatusCode::FORBIDDEN, told)) => Ok(Err(told)),
                opened => opened.map(Ok),
            }
        });
        match opened.await.map_err(io::Error::other)? {
            Ok(response) => Ok(response.map(|response| response.bytes_stream().boxed())),
            Err(told) => Err(io::Error::new(io::ErrorKind::PermissionDenied, told)),
        }
    }

    /// The file from one registry, or from where that keeps it.
    async fn opened(&self, number: usize, wanted: &Wanted, offset: u64) -> Result<Option<Response>, Failure> {
        let direct = wanted.direct.load(Ordering::Relaxed);
        let mut response = self.ask_for(number, wanted, offset, direct).await?;
        if let Some(address) = response.as_ref().and_then(address_in) {
            response = match self.read_from(address, offset).await {
                Ok(response) => Some(response),
                Err(failure) => {
                    let digest = wanted.digest;
                    tracing::warn!(%digest, "A file cannot be read where its registry keeps it: that {failure}");
                    wanted.direct.store(false, Ordering::Relaxed);
                    self.ask_for(number, wanted, offset, false).await?
                }
            };
        }
        match response {
            // It would begin at the start.
            Some(whole) if offset > 0 && whole.status() != StatusCode::PARTIAL_CONTENT => {
                Err(Failure::Refuses(whole.status(), "it does not go on in the middle of a file".to_owned()))
            }
            response => Ok(response),
        }
    }

    /// Reads at an address that a registry gave.
    async fn read_from(&self, address: Url, offset: u64) -> Result<Response, Failure> {
        let read = self.read_at(address, |request| from_byte(request, offset));
        let response = timeout(STALL_TIME, read).await.map_err(silent)??;
        if response.status() == StatusCode::TEMPORARY_REDIRECT {
            return Err(Failure::Refuses(response.status(), "it sends on to yet another place".to_owned()));
        }
        Ok(response)
    }

    /// Asks one registry; `None`: there is no such file.
    async fn ask_for(
        &self,
        number: usize,
        wanted: &Wanted,
        offset: u64,
        direct: bool,
    ) -> Result<Option<Response>, Failure> {
        let path = format!("{PREFIX}/files/{}{}", wanted.digest, if direct { "?direct" } else { "" });
        let request =
            |http: &reqwest::Client, url| from_byte(http.get(url).header(GRANT_HEADER, wanted.grant.expose()), offset);
        match timeout(STALL_TIME, self.send(number, &path, request)).await.map_err(silent)? {
            Ok(response) => Ok(Some(response)),
            Err(Failure::Refuses(StatusCode::NOT_FOUND, _)) => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}

fn from_byte(request: RequestBuilder, offset: u64) -> RequestBuilder {
    if offset == 0 { request } else { request.header(RANGE, format!("bytes={offset}-")) }
}

fn silent(_: Elapsed) -> Failure {
    Failure::Away(format!("brings nothing for {STALL_TIME:?}"))
}

/// Where a registry says that the file can be read. One that says so without an address is passed over, and what it
/// answers is compared with the digest like everything.
fn address_in(response: &Response) -> Option<Url> {
    (response.status() == StatusCode::TEMPORARY_REDIRECT).then_some(())?;
    response.headers().get(LOCATION)?.to_str().ok()?.parse().ok()
}

impl Reading {
    /// The next bytes; `None` at the end.
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        loop {
            let broke_off = match timeout(STALL_TIME, self.body.next()).await {
                Ok(Some(Ok(bytes))) => {
                    self.offset += bytes.len() as u64;
                    return Ok(Some((bytes, self)));
                }
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => error.to_string(),
                Err(_) => format!("nothing for {STALL_TIME:?}"),
            };
            let mut broke_off = broke_off;
            // The rest comes through a registry, whatever it was that broke off.
            self.wanted.direct.store(false, Ordering::Relaxed);
            self.body = loop {
                if self.tries_left == 0 {
                    let told = format!("{} broke off after {} bytes: {broke_off}", self.wanted.digest, self.offset);
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, told));
                }
                self.tries_left -= 1;
                match self.registries.body_from(&self.wanted, self.offset).await {
                    Ok(Some(body)) => break body,
                    Ok(None) => {
                        let told = format!("{} is there no more", self.wanted.digest);
                        return Err(io::Error::new(io::ErrorKind::NotFound, told));
                    }
                    // Who could not be reached is left alone for a while, and may be back then.
                    Err(error) => broke_off = error.to_string(),
                }
                tokio::time::sleep(PAUSE).await;
            };
        }
    }
}
