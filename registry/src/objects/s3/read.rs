//! Reading an object as a stream that goes on where it broke off.

use std::io;
use std::sync::Arc;

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use futures::stream;
use tokio::time::timeout;
use tokio_util::io::StreamReader;

use super::bucket::Bucket;
use super::failure::{S3Failure, Trouble};
use crate::objects::BlobReader;

/// An object that is being read.
struct Reading {
    store: Arc<Bucket>,
    name: String,
    /// The object as it was when reading began: another one of that name is not gone on with.
    e_tag: Option<String>,
    size_bytes: u64,
    /// How much was read.
    offset: u64,
    body: ByteStream,
    /// How often it may still be asked for again.
    tries_left: u32,
}

/// Opens an object to read it from its start. `NotFound` if there is none.
pub(super) async fn open(store: Arc<Bucket>, name: String) -> io::Result<BlobReader> {
    let request = store.client.get_object().bucket(&store.address.bucket).key(store.key(&name));
    let got = request.send().await.map_err(|error| store.failed("read", &name, &error))?;
    let Some(size_bytes) = got.content_length.and_then(|length| length.try_into().ok()) else {
        return Err(store.failure("read", &name, Trouble::NotS3, "an answer without a length").into());
    };
    let tries_left = store.settings.attempts - 1;
    let reading = Reading { store, name, e_tag: got.e_tag, size_bytes, offset: 0, body: got.body, tries_left };
    Ok(Box::pin(StreamReader::new(Box::pin(stream::try_unfold(reading, Reading::next)))))
}

impl Reading {
    /// The next bytes; `None` at the end, which is where the length says that it is.
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        loop {
            let broke_off = match timeout(self.store.settings.stall_timeout, self.body.next()).await {
                Ok(Some(Ok(bytes))) => {
                    self.offset += bytes.len() as u64;
                    if self.offset > self.size_bytes {
                        let said = format!("more than the {} bytes that it has", self.size_bytes);
                        return Err(self.failure(Trouble::WrongBytes, said));
                    }
                    if bytes.is_empty() {
                        continue;
                    }
                    return Ok(Some((bytes, self)));
                }
                Ok(None) if self.offset == self.size_bytes => return Ok(None),
                Ok(None) => "the connection ended".to_owned(),
                Ok(Some(Err(error))) => error.to_string(),
                Err(_) => format!("no byte for {:?}", self.store.settings.stall_timeout),
            };
            if self.tries_left == 0 {
                let said = format!("after {} of {} bytes: {broke_off}", self.offset, self.size_bytes);
                return Err(self.failure(Trouble::TimedOut, said));
            }
            self.tries_left -= 1;
            self.go_on().await?;
        }
    }

    /// Asks for the rest.
    async fn go_on(&mut self) -> Result<(), S3Failure> {
        let Self { store, name, e_tag, offset, .. } = self;
        let request = store.client.get_object().bucket(&store.address.bucket).key(store.key(name));
        let request = request.set_if_match(e_tag.clone());
        // Everything is there already where only the end of the body was missing; a range past the end is refused.
        if *offset == self.size_bytes {
            self.body = ByteStream::from_static(b"");
            return Ok(());
        }
        let got = match request.range(format!("bytes={offset}-")).send().await {
            Ok(got) => got,
            Err(error) => {
                let failure = store.failed("read on", name, &error);
                let is_another = *failure.trouble() == Trouble::AlreadyThere;
                let said = "it was replaced while it was read";
                return Err(if is_another {
                    store.failure("read on", name, Trouble::WrongBytes, said)
                } else {
                    failure
                });
            }
        };
        if *offset > 0
            && got.content_range.as_deref().is_none_or(|range| !range.starts_with(&format!("bytes {offset}-")))
        {
            let range = got.content_range.unwrap_or_default();
            return Err(store.failure("read on", name, Trouble::Unsupported("answer ranges"), range));
        }
        self.body = got.body;
        Ok(())
    }

    fn failure(&self, trouble: Trouble, said: String) -> io::Error {
        self.store.failure("read", &self.name, trouble, said).into()
    }
}
