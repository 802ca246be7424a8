//! Publishing: from named parts to a visible version. It knows kinds of artefact and nothing of HTTP; parts may come
//! from a form, or from whatever else can name and stream them.
//!
//! 1. [`Registry::begin_upload`] checks the caller's right and takes one of the places for uploads (`gates`).
//! 2. [`Upload::receive`] reads the version number and reserves it (`in_flight`): of two uploads of one number, one
//!    goes on, if there is room for what it announces (`room`). Then it streams the parts (`receive`): large ones into a staged blob, hashed and scanned on the way,
//!    small ones into memory.
//! 3. [`Complete::publish`] lists everything that is wrong with the artefact (`kind`, `judge`), puts the blobs in
//!    place, then makes the version visible in one transaction (`publish`).
//!
//! Where the store takes bytes from clients themselves, the large part may go there past the registry (`direct`): the
//! number is reserved when that begins, and when it is there the bytes are read, looked at, and go on as above.
//!
//! Whatever fails, and whenever the client goes away, dropping the pieces undoes them. What a killed registry had begun
//! is undone by the collector of another, or of its own next start, when its lease has lapsed; a registry that stalled
//! for that long cannot publish any more. No half version is ever visible.

mod kind;
mod parts;

mod in_flight;
mod judge;
mod publish;
mod receive;

mod direct;

use semver::Version;
use serde::Serialize;
use souk_protocol::gate::Pass;
use souk_protocol::{Digest, Principal};

use crate::Registry;
use crate::db::AdapterRow;
use crate::error::RegistryError;
use crate::gates::Holder;
use crate::idempotency::Once;
use crate::metrics;
use crate::rights::Action;
use crate::room::Claim;
use crate::versions::VersionDetails;
use in_flight::InFlight;

pub(crate) use direct::{AskedUpload, DirectDetails, PartRequest, Progress, SignedPart};
pub(crate) use kind::Kind;
pub(crate) use parts::{Goes, PartSpec, Parts};
pub(crate) use receive::{Received, Receiver, Store};

/// An upload that may begin.
pub(crate) struct Upload {
    registry: Registry,
    /// Who publishes.
    principal: Principal,
    adapter: AdapterRow,
    kind: Kind,
    place: Pass<Holder>,
    /// Bytes of the whole body, where its head says so.
    announced: Option<u64>,
}

/// An upload of which everything has arrived. Nobody waits for the client any more.
pub(crate) struct Complete {
    upload: Upload,
    claim: Claim,
    number: Version,
    received: Received,
    in_flight: InFlight,
}

impl Registry {
    /// Checks that the caller may publish under `owner/name` and that one more upload may run; `announced` are the bytes
    /// of its body, where they are known.
    pub(crate) async fn begin_upload(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        kind: Kind,
        announced: Option<u64>,
    ) -> Result<Upload, RegistryError> {
        let adapter = self.adapter_for(principal, Action::PublishVersion, owner, name).await?;
        let place = self.gates.begin_upload(principal)?;
        Ok(Upload { registry: self.clone(), principal: principal.clone(), adapter, kind, place, announced })
    }
}

impl Upload {
    /// Reserves the number and takes everything in.
    pub(crate) async fn receive(self, parts: &mut dyn Parts) -> Result<Complete, RegistryError> {
        let running = metrics::UploadRuns::begin(self.kind.as_str());
        let mut receiver = self.receiver(parts);
        let number = receiver.version().await?;
        let registry = &self.registry;
        // What is announced beyond what may come at all is refused as it comes.
        let announced = self.announced.unwrap_or(0).min(receiver.most_bytes());
        let mut claim = registry.room.claim(&registry.db, &self.adapter.tenant(), announced).await?;
        let in_flight = InFlight::begin(registry, &self.principal, &self.adapter, &number, Some(running)).await?;
        let store = Store { objects: &*registry.objects, upload_id: in_flight.id(), claim: &mut claim };
        match receiver.receive(Some(store)).await {
            Ok(received) => Ok(Complete { upload: self, claim, number, received, in_flight }),
            Err(error) => Err(in_flight.end_with(error).await),
        }
    }

    fn receiver<'a>(&self, parts: &'a mut dyn Parts) -> Receiver<'a> {
        let settings = &self.registry.config.settings;
        Receiver::new(parts, self.kind.parts(settings), self.kind.scanner(), settings.upload_idle_timeout)
    }

    /// Takes everything in and keeps nothing; answers the digest over all that was sent.
    pub(crate) async fn fingerprint(self, parts: &mut dyn Parts) -> Result<Digest, RegistryError> {
        let mut receiver = self.receiver(parts);
        let number = receiver.version().await?;
        Ok(receiver.receive(None).await?.fingerprint(&number.to_string()))
    }
}

impl Complete {
    /// A digest over all that was sent.
    pub(crate) fn fingerprint(&self) -> Digest {
        self.received.fingerprint(&self.number.to_string())
    }

    /// Makes the version visible, or says everything that is wrong with it. To be run in a task of its own: the client
    /// has sent all that it has to, and its going away changes nothing now. `shape` makes the answer that is kept for
    /// an `Idempotency-Key`.
    pub(crate) async fn publish<A: Serialize>(
        self,
        once: &Once,
        shape: impl FnOnce(VersionDetails) -> A,
    ) -> Result<VersionDetails, RegistryError> {
        let Self { upload, claim, number, received, mut in_flight } = self;
        let Upload { registry, principal, adapter, kind, place, .. } = upload;
        let _until_the_end = (place, claim);
        let published = async {
            in_flight.validating().await?;
            let artefact = kind.check(received, registry.bases.clone()).await?;
            let release =
                publish::Release { registry: &registry, principal: &principal, adapter: &adapter, number: &number };
            publish::publish(release, artefact, &mut in_flight, once, shape).await
        };
        match published.await {
            Ok(version) => {
                in_flight.published().await;
                Ok(version)
            }
            Err(error) => Err(in_flight.end_with(error).await),
        }
    }
}
