//! An upload, from the first byte to the visible version.
//!
//! 1. `body` bounds what of the request is in memory.
//! 2. `in_flight` reserves the version number: of two uploads of one number, one goes on.
//! 3. `receive` streams the parts: weights into a staged blob, hashed and scanned on the way; the small parts into
//!    memory.
//! 4. `judge` lists everything that is wrong with the adapter.
//! 5. `publish` puts the blobs in place, then makes the version visible in one transaction.
//!
//! Whatever fails, and whenever the client goes away, dropping the pieces undoes them; a killed process is put right
//! by the next start. No half version is ever visible.

mod body;
mod in_flight;
mod judge;
mod publish;
mod receive;

use axum::extract::{Multipart, Request};
use semver::Version;
use souk_protocol::Digest;

use crate::Registry;
use crate::db::entities::{adapter, version};
use crate::error::RegistryError;
use body::BoundedBody;
use in_flight::InFlight;
use receive::Parts;

/// An upload whose first part, the version number, was read.
pub(crate) struct Upload {
    registry: Registry,
    adapter: adapter::Model,
    number: Version,
    parts: Parts,
}

/// A version that was made, and a digest over all that was sent for it.
pub(crate) struct Uploaded {
    pub(crate) version: version::Model,
    pub(crate) fingerprint: Digest,
}

impl Upload {
    /// Reads as far as the version number.
    async fn open(
        registry: &Registry,
        adapter: adapter::Model,
        multipart: Multipart,
        body: &BoundedBody,
    ) -> Result<Self, RegistryError> {
        let mut parts = Parts::new(multipart, body.held_bytes(), registry.config.uploads.clone());
        let number = parts.version().await?;
        Ok(Self { registry: registry.clone(), adapter, number, parts })
    }

    /// The adapter that gets a version.
    pub(crate) fn adapter(&self) -> &adapter::Model {
        &self.adapter
    }

    /// Goes all the way.
    pub(crate) async fn run(mut self) -> Result<Uploaded, RegistryError> {
        let in_flight = InFlight::begin(&self.registry.db, &self.adapter, &self.number).await?;
        let received = match self.parts.receive(&*self.registry.objects).await {
            Ok(received) => received,
            Err(error) => return Err(in_flight.end_with(error).await),
        };
        // A task of its own: from here on the client has sent all that it has to, and its going away changes nothing.
        let work = tokio::spawn(async move {
            let fingerprint = received.fingerprint(&self.number);
            match publish::judge_and_publish(&self.registry, &self.adapter, &self.number, received, &in_flight).await {
                Ok(version) => {
                    in_flight.published();
                    Ok(Uploaded { version, fingerprint })
                }
                Err(error) => Err(in_flight.end_with(error).await),
            }
        });
        work.await.unwrap_or_else(|error| Err(RegistryError::Storage(std::io::Error::other(error))))
    }

    /// Reads everything and keeps nothing; answers the digest over all that was sent.
    pub(crate) async fn only_fingerprint(mut self) -> Result<Digest, RegistryError> {
        let received = self.parts.receive(&*self.registry.objects).await?;
        Ok(received.fingerprint(&self.number))
    }
}

/// Opens the upload in `request` and lets `work` go on with it. When that fails with part of the body unread, the rest
/// is read away first: a client that writes before it reads would otherwise see a reset connection, not the answer.
pub(crate) async fn with_upload<T, Work, Done>(
    registry: &Registry,
    adapter: Result<adapter::Model, RegistryError>,
    request: Request,
    work: Work,
) -> Result<T, RegistryError>
where
    Work: FnOnce(Upload) -> Done,
    Done: Future<Output = Result<T, RegistryError>>,
{
    let (body, request) = BoundedBody::take_from(request);
    let result = async {
        let adapter = adapter?;
        let limit = registry.config.uploads.max_concurrent;
        let slots = registry.upload_slots.clone();
        let _slot = slots.try_acquire_owned().map_err(|_| RegistryError::TooManyUploads { limit })?;
        let multipart = body::multipart(request).await?;
        work(Upload::open(registry, adapter, multipart, &body).await?).await
    }
    .await;
    if result.is_err() {
        body.drain().await;
    }
    result
}
