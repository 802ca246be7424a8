//! From wherever an adapter is to packed numbers, in steps between which somebody may have to wait.

use std::sync::Arc;

use souk_models::adapter::{PackedAdapter, pack, packed_bytes};
use souk_models::base::LlamaWeights;
use souk_protocol::peft::AdapterPlan;
use souk_protocol::{BaseModel, Digest};

use crate::adapters::disk::DiskTier;
use crate::adapters::error::AdapterError;
use crate::adapters::grants::Grants;
use crate::adapters::source::{AdapterFiles, AdapterSource};
use crate::background;

/// Where adapters come from, and the base model that they are for.
pub(super) struct Origin {
    pub(super) source: Arc<dyn AdapterSource>,
    /// What files are fetched with.
    pub(super) grants: Grants,
    /// Packed adapters on disk, if there is such a tier.
    pub(super) disk: Option<DiskTier>,
    pub(super) base: Arc<BaseModel>,
    /// DoRA is worked out against these.
    pub(super) weights: Arc<LlamaWeights>,
    /// The most that adapters on the device can ever have.
    pub(super) most_device_bytes: usize,
}

/// Files that have been judged.
pub(super) struct Fetched {
    files: AdapterFiles,
    plan: AdapterPlan,
}

impl Origin {
    /// Whether the adapter can be had, as far as that is for this node to know: it is on disk, or there is a grant for it
    /// where one is asked for.
    pub(super) fn may_be_had(&self, digest: &Digest) -> bool {
        !self.source.asks_for_grants()
            || self.grants.of(digest).grant.is_some()
            || self.disk.as_ref().is_some_and(|disk| disk.has(digest))
    }

    /// The adapter, if it is on disk and intact.
    pub(super) async fn read_from_disk(&self, digest: Digest) -> Result<Option<PackedAdapter>, AdapterError> {
        let Some(disk) = self.disk.clone() else { return Ok(None) };
        if !disk.has(&digest) {
            disk.missed();
            return Ok(None);
        }
        beside_the_engine(move || Ok(disk.read(&digest))).await
    }

    /// The adapter's files, judged.
    pub(super) async fn fetch(&self, digest: &Digest) -> Result<Fetched, AdapterError> {
        let files = self.source.fetch(&self.grants.of(digest), self.max_weights_bytes()).await?;
        let base = Arc::clone(&self.base);
        beside_the_engine(move || check(&base, files)).await
    }

    /// Bytes that [`pack`](Self::pack) will need for the adapter.
    pub(super) fn packed_bytes(&self, fetched: &Fetched) -> usize {
        packed_bytes(&fetched.plan, &self.base.shape)
    }

    /// Converts the adapter's numbers.
    pub(super) async fn pack(&self, digest: Digest, fetched: Fetched) -> Result<PackedAdapter, AdapterError> {
        let weights = Arc::clone(&self.weights);
        beside_the_engine(move || {
            let Fetched { files, plan } = fetched;
            let data = usize::try_from(plan.data_start).ok().and_then(|start| files.weights.get(start..));
            Ok(pack(digest, &plan, data.unwrap_or_default(), &weights)?)
        })
        .await
    }

    /// Weights of more bytes than this cannot fit: slabs take at least half of an F32 file's data. A copy of the head,
    /// which PEFT saves with a pair on it, comes on top.
    fn max_weights_bytes(&self) -> u64 {
        let header_bytes = souk_protocol::peft::MAX_HEADER_BYTES as u64 + 8;
        let head_bytes = (self.base.shape.vocab_size * self.base.shape.hidden_size * size_of::<f32>()) as u64;
        let slabs = (self.most_device_bytes as u64).saturating_mul(2);
        slabs.saturating_add(header_bytes).saturating_add(head_bytes)
    }
}

/// Judges the files against the base model. They were judged when they were published, by another process and perhaps
/// for a base that this node does not have.
fn check(base: &BaseModel, files: AdapterFiles) -> Result<Fetched, AdapterError> {
    if files.manifest.base != base.digest {
        return Err(AdapterError::WrongBase { expected: base.digest, given: files.manifest.base });
    }
    let mut intake = souk_protocol::peft::WeightsIntake::new();
    let plan = intake.push(&files.weights).and_then(|()| intake.finish(&files.config, base));
    let plan = plan.map_err(|problems| AdapterError::Invalid(Arc::new(problems)))?;
    Ok(Fetched { files, plan })
}

/// Runs work that blocks or computes behind the engine's threads. Permits bound how much runs at once.
async fn beside_the_engine<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AdapterError> + Send + 'static,
) -> Result<T, AdapterError> {
    background::run(work).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "a load was broken off");
        Err(AdapterError::Stopped)
    })
}
