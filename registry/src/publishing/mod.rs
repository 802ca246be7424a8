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
use receive::{Parts, Received};

/// An upload whose first part, the version number, was read.
pub(crate) struct Upload {
    registry: Registry,
    adapter: adapter::Model,
    number: Version,
    parts: Parts,
}

/// An upload of which everything has arrived. Nobody waits for the client any more.
pub(crate) struct Complete {
    registry: Registry,
    adapter: adapter::Model,
    number: Version,
    received: Received,
    in_flight: InFlight,
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

    /// Reserves the number and takes everything in.
    pub(crate) async fn receive(mut self) -> Result<Complete, RegistryError> {
        let in_flight = InFlight::begin(&self.registry.db, &self.adapter, &self.number).await?;
        match self.parts.receive(&*self.registry.objects).await {
            Ok(received) => {
                let Self { registry, adapter, number, .. } = self;
                Ok(Complete { registry, adapter, number, received, in_flight })
            }
            Err(error) => Err(in_flight.end_with(error).await),
        }
    }

    /// Takes everything in and keeps nothing; answers the digest over all that was sent.
    pub(crate) async fn only_fingerprint(mut self) -> Result<Digest, RegistryError> {
        let received = self.parts.receive(&*self.registry.objects).await?;
        Ok(received.fingerprint(&self.number))
    }
}

impl Complete {
    /// A digest over all that was sent.
    pub(crate) fn fingerprint(&self) -> Digest {
        self.received.fingerprint(&self.number)
    }

    /// Makes the version visible, or says everything that is wrong with it. To be run in a task of its own.
    pub(crate) async fn publish(self) -> Result<(adapter::Model, version::Model), RegistryError> {
        let Self { registry, adapter, number, received, in_flight } = self;
        match publish::judge_and_publish(&registry, &adapter, &number, received, &in_flight).await {
            Ok(version) => {
                in_flight.published();
                Ok((adapter, version))
            }
            Err(error) => Err(in_flight.end_with(error).await),
        }
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
