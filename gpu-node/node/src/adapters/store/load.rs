//! One load, from wherever the adapter is into host memory.

use std::sync::Arc;
use std::time::Instant;

use souk_models::adapter::PackedAdapter;
use souk_models::adapter::{pack, packed_bytes};
use souk_protocol::peft::AdapterPlan;
use souk_protocol::{BaseModel, Digest};
use tokio::sync::SemaphorePermit;

use super::AdapterStore;
use crate::adapters::entry::{EntryId, Flight};
use crate::adapters::error::AdapterError;
use crate::adapters::residency::Loaded;
use crate::adapters::source::AdapterFiles;
use crate::background;

/// One load. Reports its end exactly once, also if its task is dropped or panics.
pub(super) struct Load {
    store: AdapterStore,
    id: EntryId,
    digest: Digest,
    /// No request had asked for it when it began.
    is_expected: bool,
    started: Instant,
    is_over: bool,
}

impl Load {
    pub(super) fn new(store: AdapterStore, id: EntryId, digest: Digest, is_expected: bool) -> Self {
        Self { store, id, digest, is_expected, started: Instant::now(), is_over: false }
    }

    pub(super) async fn run(mut self, flight: Arc<Flight>) {
        let result = self.load(&flight).await;
        self.finish(result);
    }

    /// Read from disk, or fetch, check and pack; and wait for memory.
    async fn load(&self, flight: &Flight) -> Result<Loaded, AdapterError> {
        let shared = &self.store.0;
        let _permit = self.permit(flight).await?;
        let began = Instant::now();
        if let Some(adapter) = self.read_from_disk().await? {
            let work_time = began.elapsed();
            self.reserve(adapter.size_bytes, flight).await?;
            return Ok(Loaded { adapter: Arc::new(adapter), work_time, was_on_disk: true });
        }
        let files = shared.source.fetch(&self.digest, shared.max_weights_bytes()).await?;
        let base = Arc::clone(&shared.base);
        let (files, plan) = beside_the_engine(move || check(&base, files)).await?;
        let fetch_time = began.elapsed();
        self.reserve(packed_bytes(&plan, &shared.base.shape), flight).await?;
        let (digest, weights, began) = (self.digest, Arc::clone(&shared.weights), Instant::now());
        let adapter = beside_the_engine(move || {
            let data = usize::try_from(plan.data_start).ok().and_then(|start| files.weights.get(start..));
            Ok(pack(digest, &plan, data.unwrap_or_default(), &weights)?)
        })
        .await?;
        Ok(Loaded { adapter: Arc::new(adapter), work_time: fetch_time + began.elapsed(), was_on_disk: false })
    }

    /// Waits for its turn. What is only expected has places of its own, until a request joins it.
    async fn permit(&self, flight: &Flight) -> Result<SemaphorePermit<'_>, AdapterError> {
        let shared = &self.store.0;
        let requested = async {
            if self.is_expected {
                flight.requested.notified().await;
            }
            shared.loads.acquire().await
        };
        let expected = async {
            if !self.is_expected {
                std::future::pending::<()>().await;
            }
            shared.prefetches.acquire().await
        };
        let permit = tokio::select! { permit = requested => permit, permit = expected => permit };
        permit.map_err(|_| AdapterError::Stopped)
    }

    async fn read_from_disk(&self) -> Result<Option<PackedAdapter>, AdapterError> {
        let Some(disk) = self.store.0.disk.clone() else { return Ok(None) };
        if !disk.has(&self.digest) {
            disk.missed();
            return Ok(None);
        }
        let digest = self.digest;
        beside_the_engine(move || Ok(disk.read(&digest))).await
    }

    async fn reserve(&self, bytes: usize, flight: &Flight) -> Result<(), AdapterError> {
        let shared = &self.store.0;
        let started = Instant::now();
        let deadline = tokio::time::Instant::from_std(started) + shared.limits.max_wait;
        loop {
            let changed = flight.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if shared.lock().reserve(self.id, bytes, Instant::now())? {
                return Ok(());
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return Err(shared.lock().why_waiting(self.id, started.elapsed()));
            }
        }
    }

    fn finish(&mut self, result: Result<Loaded, AdapterError>) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let (digest, shared) = (self.digest, &self.store.0);
        match result {
            Ok(loaded) => {
                let (adapter, load_time) = (Arc::clone(&loaded.adapter), self.started.elapsed());
                let (work_time, was_on_disk) = (loaded.work_time, loaded.was_on_disk);
                let from = if was_on_disk { "disk" } else { "source" };
                metrics::histogram!("souk_adapter_load_seconds", "from" => from).record(load_time.as_secs_f64());
                let size_bytes = adapter.size_bytes;
                tracing::info!(adapter.digest = %digest, size_bytes, from, ?load_time, ?work_time, "adapter loaded");
                shared.lock().loaded(self.id, loaded, Instant::now());
                if !was_on_disk && shared.disk.as_ref().is_some_and(|disk| disk.write(&adapter)) {
                    shared.lock().kept_on_disk(&digest);
                }
            }
            Err(error) => {
                let is_failure = !self.is_expected || error.calls_for_pause();
                if is_failure {
                    tracing::warn!(adapter.digest = %digest, %error, "adapter not loaded");
                } else {
                    tracing::debug!(adapter.digest = %digest, %error, "adapter not brought ahead of its request");
                }
                shared.lock().failed(self.id, error, Instant::now());
            }
        }
        self.store.publish();
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.finish(Err(AdapterError::Stopped));
    }
}

/// Judges the files against the base model. They were judged when they were published, by another process and perhaps
/// for a base that this node does not have.
fn check(base: &BaseModel, files: AdapterFiles) -> Result<(AdapterFiles, AdapterPlan), AdapterError> {
    if files.manifest.base != base.digest {
        return Err(AdapterError::WrongBase { expected: base.digest, given: files.manifest.base });
    }
    let mut intake = souk_protocol::peft::WeightsIntake::new();
    let plan = intake.push(&files.weights).and_then(|()| intake.finish(&files.config, base));
    let plan = plan.map_err(|problems| AdapterError::Invalid(Arc::new(problems)))?;
    Ok((files, plan))
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
