//! Files of adapters from registries, by digest. A transfer that breaks off goes on at the next registry; who reads compares
//! the whole with the digest.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt as _, try_unfold};
use reqwest::StatusCode;
use reqwest::header::RANGE;
use souk_protocol::Digest;
use souk_protocol::internal::PREFIX;
use tokio::io::AsyncRead;
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

/// A file that is being read.
struct Reading {
    registries: Registries,
    digest: Digest,
    /// How much has come.
    offset: u64,
    body: BoxStream<'static, reqwest::Result<Bytes>>,
    tries_left: u32,
}

impl Registries {
    /// Opens a file; `None`: there is none.
    ///
    /// # Errors
    /// If no registry answers.
    pub async fn open(&self, digest: &Digest) -> io::Result<Option<FileReader>> {
        let Some(body) = self.body_from(digest, 0).await? else { return Ok(None) };
        let registries = self.clone();
        let reading = Reading { registries, digest: *digest, offset: 0, body, tries_left: MAX_TRIES - 1 };
        Ok(Some(Box::pin(StreamReader::new(Box::pin(try_unfold(reading, Reading::next))))))
    }

    async fn body_from(
        &self,
        digest: &Digest,
        offset: u64,
    ) -> io::Result<Option<BoxStream<'static, reqwest::Result<Bytes>>>> {
        let path = &format!("{PREFIX}/files/{digest}");
        let got = self.first_of(move |number| async move {
            let request = |http: &reqwest::Client, url| match offset {
                0 => http.get(url),
                offset => http.get(url).header(RANGE, format!("bytes={offset}-")),
            };
            let silent = |_| Failure::Away(format!("brings nothing for {STALL_TIME:?}"));
            match timeout(STALL_TIME, self.send(number, path, request)).await.map_err(silent)? {
                // It would begin at the start.
                Ok(whole) if offset > 0 && whole.status() != StatusCode::PARTIAL_CONTENT => {
                    Err(Failure::Refuses(whole.status(), "it does not go on in the middle of a file".to_owned()))
                }
                Ok(response) => Ok(Some(response)),
                Err(Failure::Refuses(StatusCode::NOT_FOUND, _)) => Ok(None),
                Err(failure) => Err(failure),
            }
        });
        Ok(got.await.map_err(io::Error::other)?.map(|response| response.bytes_stream().boxed()))
    }
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
            self.body = loop {
                if self.tries_left == 0 {
                    let told = format!("{} broke off after {} bytes: {broke_off}", self.digest, self.offset);
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, told));
                }
                self.tries_left -= 1;
                match self.registries.body_from(&self.digest, self.offset).await {
                    Ok(Some(body)) => break body,
                    Ok(None) => {
                        let told = format!("{} is there no more", self.digest);
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
