//! Adapters in memory: requests lease them, loads run beside the engine, and what is idle goes when room is needed.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use souk_protocol::peft::AdapterPlan;
use souk_protocol::{BaseModel, Digest};
use tokio::sync::Semaphore;

use super::device::DeviceAdapter;
use super::entry::{EntryId, Flight};
use super::error::AdapterError;
use super::limits::{AdapterLimits, LimitsError};
use super::pack::{pack, packed_bytes};
use super::residency::Residency;
use super::source::{AdapterFiles, AdapterSource};
use super::stats::AdapterStats;
use crate::base::LlamaWeights;

/// The adapters of a node. Clones are handles to the same store.
///
/// There are two tiers with a budget each: host memory, where packed adapters are kept, and the device, where the model
/// runs. On the CPU the device is host memory, so that an adapter on both is one allocation and coming to the device is
/// an entry in the books; the device budget then bounds what running requests may hold at once.
#[derive(Clone)]
pub struct AdapterStore(Arc<Shared>);

/// The right to run an adapter. While it lives the adapter stays on the device; what it derefs to should not be kept
/// longer than the lease, since its bytes are not counted any more then.
#[derive(Debug)]
pub struct AdapterLease {
    // Dropped before the ticket, so that memory is free when the budget says so.
    adapter: Arc<DeviceAdapter>,
    _ticket: Ticket,
}

struct Shared {
    source: Arc<dyn AdapterSource>,
    base: Arc<BaseModel>,
    weights: Arc<LlamaWeights>,
    limits: AdapterLimits,
    // A std mutex: sections are short and have no await.
    residency: Mutex<Residency>,
    /// Bounds loads, and with them the memory that files take while they are packed.
    loads: Semaphore,
}

impl AdapterStore {
    /// An empty store for adapters of `base`, whose weights DoRA is worked out against.
    ///
    /// # Errors
    /// [`LimitsError`] if the limits contradict themselves.
    pub fn new(
        source: Arc<dyn AdapterSource>,
        base: Arc<BaseModel>,
        weights: Arc<LlamaWeights>,
        limits: AdapterLimits,
    ) -> Result<Self, LimitsError> {
        limits.check()?;
        let residency = Mutex::new(Residency::new(limits));
        let loads = Semaphore::new(limits.max_concurrent_loads.min(Semaphore::MAX_PERMITS));
        Ok(Self(Arc::new(Shared { source, base, weights, limits, residency, loads })))
    }

    /// Leases an adapter, loading it first if need be. However many ask for one adapter, it is loaded once. A caller
    /// that goes away does not stop the load for the others.
    ///
    /// # Errors
    /// [`AdapterError`] if it cannot be loaded, or does not fit within `max_wait` since others are in use.
    pub async fn acquire(&self, digest: &Digest) -> Result<AdapterLease, AdapterError> {
        let started = Instant::now();
        let ticket = self.join(digest, started)?;
        let adapter = self.wait(&ticket, started).await?;
        self.publish();
        Ok(AdapterLease { adapter, _ticket: ticket })
    }

    /// Makes the adapter unknown to this node at once, for take-downs. Requests that run keep their lease until they
    /// end; those that wait are refused. Returns whether it was resident or being loaded.
    pub fn evict(&self, digest: &Digest) -> bool {
        let was_there = self.0.lock().take_down(digest, Instant::now());
        if was_there {
            tracing::info!(adapter.digest = %digest, "adapter taken down");
            self.publish();
        }
        was_there
    }

    /// What is resident, and counts since the start.
    #[must_use]
    pub fn stats(&self) -> AdapterStats {
        self.0.lock().stats(Instant::now())
    }

    fn join(&self, digest: &Digest, now: Instant) -> Result<Ticket, AdapterError> {
        let joined = self.0.lock().join(digest, now)?;
        let ticket = Ticket { shared: Arc::clone(&self.0), id: joined.id, flight: joined.flight };
        if joined.must_load {
            let load = Load { store: self.clone(), id: joined.id, digest: *digest, started: now, is_over: false };
            // Not awaited by the request: the load goes on when the request does not.
            tokio::spawn(load.run(Arc::clone(&ticket.flight)));
        }
        Ok(ticket)
    }

    /// Waits until the adapter is on the device.
    async fn wait(&self, ticket: &Ticket, started: Instant) -> Result<Arc<DeviceAdapter>, AdapterError> {
        let deadline = tokio::time::Instant::from_std(started) + self.0.limits.max_wait;
        loop {
            let changed = ticket.flight.changed.notified();
            tokio::pin!(changed);
            // Listens before it looks, or a change between the two would be missed.
            changed.as_mut().enable();
            if let Some(adapter) = self.0.lock().poll(ticket.id, Instant::now())? {
                return Ok(adapter);
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return Err(self.0.lock().why_waiting(ticket.id, started.elapsed()));
            }
        }
    }

    fn publish(&self) {
        let totals = self.0.lock().totals();
        totals.publish();
    }
}

impl fmt::Debug for AdapterStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdapterStore").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}

impl AdapterLease {
    /// Digest of the adapter's manifest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.adapter.digest
    }
}

impl Deref for AdapterLease {
    type Target = Arc<DeviceAdapter>;

    fn deref(&self) -> &Self::Target {
        &self.adapter
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Residency> {
        // The books are changed in steps that do not panic in between.
        self.residency.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Weights of more bytes than this cannot fit: slabs take at least half of an F32 file's data. A copy of the head,
    /// which PEFT saves with a pair on it, comes on top.
    fn max_weights_bytes(&self) -> u64 {
        let header_bytes = souk_protocol::peft::MAX_HEADER_BYTES as u64 + 8;
        let head_bytes = (self.base.shape.vocab_size * self.base.shape.hidden_size * size_of::<f32>()) as u64;
        let slabs = (self.limits.device_bytes as u64).saturating_mul(2);
        slabs.saturating_add(header_bytes).saturating_add(head_bytes)
    }
}

/// One user of an entry; gone when dropped.
struct Ticket {
    shared: Arc<Shared>,
    id: EntryId,
    flight: Arc<Flight>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.shared.lock().release(self.id, Instant::now());
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ticket").field(&self.id).finish()
    }
}

/// One load. Reports its end exactly once, also if its task is dropped or panics.
struct Load {
    store: AdapterStore,
    id: EntryId,
    digest: Digest,
    started: Instant,
    is_over: bool,
}

impl Load {
    async fn run(mut self, flight: Arc<Flight>) {
        let result = self.load(&flight).await;
        self.finish(result);
    }

    /// Fetch, check, wait for memory, pack.
    async fn load(&self, flight: &Flight) -> Result<Arc<DeviceAdapter>, AdapterError> {
        let shared = &self.store.0;
        let _permit = shared.loads.acquire().await.map_err(|_| AdapterError::Stopped)?;
        let files = shared.source.fetch(&self.digest, shared.max_weights_bytes()).await?;
        let base = Arc::clone(&shared.base);
        let (files, plan) = blocking(move || check(&base, files)).await?;
        self.reserve(packed_bytes(&plan, &shared.base.shape), flight).await?;
        let (digest, weights) = (self.digest, Arc::clone(&shared.weights));
        blocking(move || {
            let data = usize::try_from(plan.data_start).ok().and_then(|start| files.weights.get(start..));
            Ok(Arc::new(pack(digest, &plan, data.unwrap_or_default(), &weights)?))
        })
        .await
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

    fn finish(&mut self, result: Result<Arc<DeviceAdapter>, AdapterError>) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let (digest, load_time) = (self.digest, self.started.elapsed());
        match result {
            Ok(adapter) => {
                let size_bytes = adapter.size_bytes;
                metrics::histogram!("souk_adapter_load_seconds").record(load_time.as_secs_f64());
                tracing::info!(adapter.digest = %digest, size_bytes, ?load_time, "adapter loaded");
                self.store.0.lock().loaded(self.id, adapter, load_time, Instant::now());
            }
            Err(error) => {
                tracing::warn!(adapter.digest = %digest, %error, "adapter not loaded");
                self.store.0.lock().failed(self.id, error, Instant::now());
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

/// Runs work that blocks off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AdapterError> + Send + 'static,
) -> Result<T, AdapterError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| AdapterError::Stopped)?
}

#[cfg(test)]
mod tests;
