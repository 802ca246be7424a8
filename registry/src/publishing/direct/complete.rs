//! Completing an upload: everything that has arrived is read and looked at, and the version made.

use semver::Version;
use serde::Serialize;
use souk_protocol::gate::Pass;
use souk_protocol::manifest::WEIGHTS_FILE;
use souk_protocol::{Digest, Principal};

use super::parts::check_arrived;
use crate::Registry;
use crate::crash_points::{CrashPoint, pass};
use crate::db::{AdapterRow, DirectUploadRow, direct_uploads};
use crate::error::RegistryError;
use crate::gates::Holder;
use crate::idempotency::Once;
use crate::metrics;
use crate::publishing::in_flight::InFlight;
use crate::publishing::receive::{Received, Receiver, Staged, Store, look_through};
use crate::publishing::{Complete, Kind, Parts, Upload};
use crate::room::Claim;
use crate::versions::VersionDetails;

/// The completion of an upload that may begin.
pub(crate) struct Completion {
    pub(super) registry: Registry,
    pub(super) principal: Principal,
    pub(super) adapter: AdapterRow,
    pub(super) place: Pass<Holder>,
    pub(super) id: String,
}

/// A completion of which everything has arrived. Nobody waits for the client any more.
pub(crate) struct CompleteDirect {
    completion: Completion,
    row: DirectUploadRow,
    claim: Claim,
    small: Received,
}

impl Completion {
    /// Takes the small parts in.
    pub(crate) async fn receive(self, parts: &mut dyn Parts) -> Result<CompleteDirect, RegistryError> {
        let registry = &self.registry;
        let row = registry.direct_upload(&self.adapter, &self.id).await?;
        let mut claim = registry.room.claim(&registry.db, &self.adapter.tenant(), 0).await?;
        let store = Store { objects: &*registry.objects, upload_id: &self.id, claim: &mut claim };
        let small = self.receiver(parts).receive(Some(store)).await?;
        Ok(CompleteDirect { completion: self, row, claim, small })
    }

    /// Takes the small parts in and keeps nothing; answers the digest over all that was sent.
    pub(crate) async fn fingerprint(self, parts: &mut dyn Parts) -> Result<Digest, RegistryError> {
        Ok(self.receiver(parts).receive(None).await?.fingerprint(&self.id))
    }

    fn receiver<'a>(&self, parts: &'a mut dyn Parts) -> Receiver<'a> {
        let settings = &self.registry.config.settings;
        Receiver::of_small(parts, Kind::Adapter.parts(settings), settings.upload_idle_timeout)
    }
}

impl CompleteDirect {
    /// A digest over all that was sent.
    pub(crate) fn fingerprint(&self) -> Digest {
        self.small.fingerprint(&self.completion.id)
    }

    /// Makes the version visible, or says everything that is wrong with it. To be run in a task of its own, as
    /// [`Complete::publish`].
    pub(crate) async fn publish<A: Serialize>(
        self,
        once: &Once,
        shape: impl FnOnce(VersionDetails) -> A,
    ) -> Result<VersionDetails, RegistryError> {
        let Self { completion, row, claim, small } = self;
        let Completion { registry, principal, adapter, place, id } = completion;
        let kind = Kind::Adapter;
        let name = format!("{}/{}@{}", adapter.owner, adapter.name, row.version);
        let running = metrics::UploadRuns::begin(kind.as_str());
        let in_flight = InFlight::take(&registry, &adapter, &name, &id, running).await?;
        let staged = match staged(&registry, kind, &row).await {
            Ok(staged) => staged,
            Err(error) => return Err(in_flight.end_with(error).await),
        };
        let number = Version::parse(&row.version).map_err(std::io::Error::other)?;
        let received = small.with_staged(WEIGHTS_FILE, staged);
        let upload = Upload { registry, principal, adapter, kind, place, announced: None };
        Complete { upload, claim, number, received, in_flight }.publish(once, shape).await
    }
}

/// What a client has sent of an upload, after all of it was read and found to be what was announced.
async fn staged(registry: &Registry, kind: Kind, row: &DirectUploadRow) -> Result<Staged, RegistryError> {
    let (direct, id) = (registry.direct()?, &row.upload_id);
    if let Some(arrived) = direct.parts(row.begun()).await? {
        check_arrived(row, &arrived)?;
    }
    // First, so that no address is given for an upload that takes no parts any more, wherever this is interrupted.
    direct_uploads::forget_store_id(&registry.db, id).await?;
    let size_bytes = direct.complete(row.begun()).await?;
    pass(CrashPoint::ObjectStaged);
    let wrong = |given: String| {
        let expected = format!("{} with {} bytes", row.digest, row.size_bytes);
        RegistryError::WrongBytes { file: WEIGHTS_FILE, expected, given }
    };
    // Before it is read: parts can be sent until then, of which the store may have been told more than was announced.
    if i64::try_from(size_bytes) != Ok(row.size_bytes) {
        return Err(wrong(format!("{size_bytes} bytes")));
    }
    let (entry, scanner) = look_through(direct.open(id).await?, kind.scanner()).await?;
    if entry.digest.to_string() != row.digest || entry.size_bytes != size_bytes {
        return Err(wrong(format!("{} with {} bytes", entry.digest, entry.size_bytes)));
    }
    Ok(Staged { blob: direct.completed(id, size_bytes), entry, scanner })
}
