//! Adapters in memory: requests lease them, loads run beside the engine, and what is idle goes when room is needed.

mod ahead;
mod load;

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use souk_engine::device_memory::{DeviceMemory, PAGE_BYTES, Side};
use souk_models::base::LlamaWeights;
use souk_protocol::{BaseModel, Digest, Fetchable, TenantId};
use souk_runner::DeviceAdapter;
use tokio::sync::Notify;

use self::load::Origin;
use super::disk::DiskTier;
use super::entry::{EntryId, Holder};
use super::error::{AdapterError, as_ms};
use super::grants::Grants;
use super::limits::{AdapterLimits, LimitsError};
use super::residency::{Loaded, News, Residency};
use super::source::AdapterSource;
use super::stats::AdapterStats;
use super::waiting::RequestId;

/// The adapters of a node. Clones are handles to the same store.
///
/// There are two tiers with a budget each: host memory, where packed adapters are kept, and the device, where the model
/// runs. On the CPU the device is host memory, so that an adapter on both is one allocation and coming to the device is
/// an entry in the books; the device budget then bounds what running requests may hold at once.
///
/// A registered adapter costs nothing until it is asked for: the store knows only those that are here or on their way,
/// and a bounded number that failed a moment ago.
#[derive(Clone)]
pub struct AdapterStore(Arc<StoreState>);

/// The right to run an adapter. While it lives the adapter stays on the device; what it derefs to should not be kept
/// longer than the lease, since its bytes are not counted any more then.
#[derive(Debug)]
pub struct AdapterLease {
    // Dropped before the hold, so that memory is free when the budget says so.
    adapter: Arc<DeviceAdapter>,
    _hold: Hold,
}

/// Where a store keeps adapters.
pub struct Tiers {
    /// The device's memory, shared with K and V.
    pub memory: DeviceMemory,
    /// Packed adapters on disk, if there is such a tier.
    pub disk: Option<DiskTier>,
}

struct StoreState {
    origin: Origin,
    limits: AdapterLimits,
    // A std mutex: sections are short and have no await.
    residency: Mutex<Residency>,
    /// Notified after each change that a request may wait for. One for all waiters: they are about as many as the node
    /// has places, and a look is short.
    changed: Notify,
    /// Notified when the pool may have room again.
    room: Arc<Notify>,
}

impl AdapterStore {
    /// An empty store for adapters of `base`, whose weights DoRA is worked out against. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`LimitsError`] if the limits contradict themselves.
    pub fn new(
        source: Arc<dyn AdapterSource>,
        base: Arc<BaseModel>,
        weights: Arc<LlamaWeights>,
        limits: AdapterLimits,
        tiers: Tiers,
    ) -> Result<Self, LimitsError> {
        limits.check()?;
        let Tiers { memory, disk } = tiers;
        let room = Arc::new(Notify::new());
        let most_device_bytes = limits.device_bytes.min(memory.most(Side::Adapters) * PAGE_BYTES);
        let shared = Arc::new(StoreState {
            origin: Origin { source, grants: Grants::default(), disk, base, weights, most_device_bytes },
            limits,
            residency: Mutex::new(Residency::new(limits, memory.clone())),
            changed: Notify::new(),
            room: Arc::clone(&room),
        });
        tokio::spawn(watch_room(Arc::downgrade(&shared), Arc::clone(&room)));
        // The engine's thread rings; evicting is done elsewhere.
        memory.set_waker(Side::Adapters, Arc::new(move || room.notify_one()));
        Ok(Self(shared))
    }

    /// Leases an adapter for the node itself, loading it first if need be. However many ask for one adapter, it is loaded once. A caller
    /// that goes away does not stop the load for the others.
    ///
    /// An adapter that is on the device is leased at once, past others that wait for room, but not for ever: how often
    /// anybody is overtaken has a bound, see `waiting.rs`. Do not wait for a lease with another in hand, or two that do
    /// may deadlock; see [`acquire_all`](Self::acquire_all).
    ///
    /// # Errors
    /// [`AdapterError`] if it cannot be loaded, or does not fit within `max_wait` since others are in use.
    pub async fn acquire(&self, digest: &Digest) -> Result<AdapterLease, AdapterError> {
        let mut leases = self.lease(&None, std::slice::from_ref(digest), now()).await?;
        Ok(leases.pop().expect("one adapter was asked for"))
    }

    /// Leases all adapters of one request of a tenant, who has a share of the room for them. Two requests that each hold one adapter and wait for the other's would
    /// deadlock, so requests for several gather theirs one after the other.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), and [`AdapterError::TogetherTooLarge`] if they do not fit side by side even
    /// alone.
    pub async fn acquire_all(&self, tenant: &TenantId, digests: &[Digest]) -> Result<Vec<AdapterLease>, AdapterError> {
        match digests {
            [] => return Ok(Vec::new()),
            [_] => {}
            // While others gather theirs these are loaded, as far as nothing else is held up by it.
            several => several.iter().for_each(|digest| self.prefetch(digest)),
        }
        self.lease(&Some(tenant.clone()), digests, now()).await
    }

    /// Keeps what the files of a version are fetched with, for whoever asks for it from now on. Without it, a version that is
    /// not here cannot be had from a source that [asks for grants](AdapterSource::asks_for_grants).
    pub fn keep_grant(&self, wanted: &Fetchable) {
        self.0.origin.grants.keep(wanted);
    }

    /// Brings an adapter nearer whose request waits in the queue: from wherever it is to the device, as far as that
    /// takes nothing from others that are worth more. Does not wait, and a request that comes meanwhile joins the load.
    pub fn prefetch(&self, digest: &Digest) {
        if !self.0.origin.may_be_had(digest) {
            return;
        }
        self.change(|residency, now| residency.prefetch(digest, now));
    }

    /// The most bytes that adapters on the device can ever have.
    #[must_use]
    pub fn most_device_bytes(&self) -> usize {
        self.0.origin.most_device_bytes
    }

    /// Takes a version down: requests that wait for it or ask for it from now on are refused; no tier keeps it.
    /// Requests that run keep their lease until they end, and its bytes count as long. Returns whether it was resident
    /// or being loaded. Of those that were taken down the latest [`ORDERS_KEPT`](souk_queue::ORDERS_KEPT) are
    /// remembered.
    pub fn take_down(&self, digest: &Digest) -> bool {
        let was_there = self.change(|residency, now| residency.take_down(digest, now));
        if let Some(disk) = &self.0.origin.disk {
            disk.remove(digest);
        }
        self.publish();
        was_there
    }

    /// Whether the version was taken down.
    #[must_use]
    pub fn is_taken_down(&self, digest: &Digest) -> bool {
        self.0.lock().is_taken_down(digest)
    }

    /// Waits until one of these versions is taken down.
    pub(super) async fn wait_for_take_down(&self, digests: Vec<Digest>) {
        let one = |residency: &mut Residency, _| {
            Ok(digests.iter().any(|digest| residency.is_taken_down(digest)).then_some(()))
        };
        self.until(None, one).await.expect("looking does not fail");
    }

    /// What is resident, and counts since the start.
    #[must_use]
    pub fn stats(&self) -> AdapterStats {
        let disk = self.0.origin.disk.as_ref().map(DiskTier::stats);
        AdapterStats { disk, ..self.0.lock().stats(now()) }
    }

    /// Leases the adapters of a request that came at `asked_at`.
    async fn lease(
        &self,
        holder: &Holder,
        digests: &[Digest],
        asked_at: Instant,
    ) -> Result<Vec<AdapterLease>, AdapterError> {
        let id = self.change(|residency, _| residency.ask(digests.len(), holder, asked_at));
        let request = Request { store: self, id };
        let deadline = asked_at + self.0.limits.max_wait;
        let granted = self.until(Some(deadline), |residency, now| residency.poll(request.id, digests, now)).await?;
        let hold = |id| Hold { store: self.clone(), id, holder: holder.clone() };
        let leases = granted.into_iter().map(|(id, adapter)| AdapterLease { adapter, _hold: hold(id) }).collect();
        self.publish();
        Ok(leases)
    }

    /// Looks again after each change until `look` finds something or fails. With a deadline it looks a last time then,
    /// and must find or fail.
    async fn until<R>(
        &self,
        deadline: Option<Instant>,
        mut look: impl FnMut(&mut Residency, Instant) -> Result<Option<R>, AdapterError>,
    ) -> Result<R, AdapterError> {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            // Listens before it looks, or a change between the two would be missed.
            changed.as_mut().enable();
            if let Some(found) = self.change(&mut look)? {
                return Ok(found);
            }
            match deadline {
                Some(deadline) => {
                    let _ = tokio::time::timeout_at(deadline.into(), changed).await;
                }
                None => changed.await,
            }
        }
    }

    /// One step of the books, and what follows from it: loads begin, and those that wait look again.
    fn change<R>(&self, step: impl FnOnce(&mut Residency, Instant) -> R) -> R {
        let mut residency = self.0.lock();
        let result = step(&mut residency, now());
        let News { changed, loads } = residency.take_news();
        drop(residency);
        for (id, digest) in loads {
            // Not awaited by any request: a load goes on when its request does not.
            tokio::spawn(Load::new(self.clone(), id, digest).run());
        }
        if changed {
            self.0.changed.notify_waiters();
        }
        result
    }

    fn publish(&self) {
        let totals = self.0.lock().totals();
        totals.publish();
        if let Some(disk) = &self.0.origin.disk {
            disk.stats().publish();
        }
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

impl StoreState {
    fn lock(&self) -> MutexGuard<'_, Residency> {
        // The books are changed in steps that do not panic in between.
        self.residency.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at the pool whenever it is told to, for as long as there is a store.
async fn watch_room(store: Weak<StoreState>, room: Arc<Notify>) {
    loop {
        room.notified().await;
        let Some(store) = store.upgrade() else { return };
        AdapterStore(store).change(Residency::look_again);
    }
}

impl Drop for StoreState {
    fn drop(&mut self) {
        // So that the watcher sees that there is nothing to watch.
        self.room.notify_one();
    }
}

/// One load, from wherever the adapter is into host memory. Reports its end exactly once, also if its task is dropped
/// or panics.
struct Load {
    store: AdapterStore,
    id: EntryId,
    digest: Digest,
    started: Instant,
    is_over: bool,
}

impl Load {
    fn new(store: AdapterStore, id: EntryId, digest: Digest) -> Self {
        Self { store, id, digest, started: Instant::now(), is_over: false }
    }

    async fn run(mut self) {
        let result = self.load().await;
        self.finish(result);
    }

    /// Read from disk, or fetch, check and pack; and wait for memory.
    async fn load(&self) -> Result<Loaded, AdapterError> {
        let origin = &self.store.0.origin;
        self.store.until(None, |residency, _| Ok(residency.may_load(self.id).then_some(()))).await?;
        let began = Instant::now();
        if let Some(adapter) = self.in_time(origin.read_from_disk(self.digest)).await? {
            let work_time = began.elapsed();
            self.reserve(adapter.size_bytes).await?;
            return Ok(Loaded { adapter: Arc::new(adapter), work_time, was_on_disk: true });
        }
        let fetched = self.in_time(origin.fetch(&self.digest)).await?;
        let fetch_time = began.elapsed();
        self.reserve(origin.packed_bytes(&fetched)).await?;
        let began = Instant::now();
        let adapter = origin.pack(self.digest, fetched).await?;
        Ok(Loaded { adapter: Arc::new(adapter), work_time: fetch_time + began.elapsed(), was_on_disk: false })
    }

    /// Reading that takes too long is given up, so that its slot is another's; a thread that hangs in it goes on alone.
    async fn in_time<R>(&self, read: impl Future<Output = Result<R, AdapterError>>) -> Result<R, AdapterError> {
        let limit = self.store.0.limits.load_timeout;
        let late = || AdapterError::ReadTimeout { limit_ms: as_ms(limit) };
        tokio::time::timeout(limit, read).await.unwrap_or_else(|_| Err(late()))
    }

    async fn reserve(&self, bytes: usize) -> Result<(), AdapterError> {
        let granted = |residency: &mut Residency, now| Ok(residency.reserve(self.id, bytes, now)?.then_some(()));
        self.store.until(None, granted).await
    }

    fn finish(&mut self, result: Result<Loaded, AdapterError>) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let (digest, disk) = (self.digest, &self.store.0.origin.disk);
        match result {
            Ok(loaded) => {
                let (adapter, load_time) = (Arc::clone(&loaded.adapter), self.started.elapsed());
                let (work_time, was_on_disk) = (loaded.work_time, loaded.was_on_disk);
                let from = if was_on_disk { "disk" } else { "source" };
                metrics::histogram!("souk_adapter_load_seconds", "from" => from).record(load_time.as_secs_f64());
                let size_bytes = adapter.size_bytes;
                tracing::info!(adapter.digest = %digest, size_bytes, from, ?load_time, ?work_time, "adapter loaded");
                let is_wanted = self.store.change(|residency, now| residency.loaded(self.id, loaded, now));
                if let Some(disk) = disk
                    && is_wanted
                    && !was_on_disk
                    && disk.write(&adapter)
                {
                    self.store.change(|residency, _| residency.kept_on_disk(&digest));
                    if self.store.is_taken_down(&digest) {
                        // It was taken down while it was written.
                        disk.remove(&digest);
                    }
                }
            }
            Err(error) => {
                if self.store.change(|residency, now| residency.failed(self.id, error.clone(), now)) {
                    tracing::warn!(adapter.digest = %digest, %error, "adapter not loaded");
                } else {
                    tracing::debug!(adapter.digest = %digest, %error, "adapter not brought ahead of its request");
                }
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

/// A request until it is granted; cancelled when dropped before.
struct Request<'a> {
    store: &'a AdapterStore,
    id: RequestId,
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        self.store.change(|residency, now| residency.cancel(self.id, now));
    }
}

/// One user of an entry; gone when dropped.
struct Hold {
    store: AdapterStore,
    id: EntryId,
    holder: Holder,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.store.change(|residency, now| residency.release(self.id, &self.holder, now));
        self.store.publish();
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hold").field(&self.id).finish()
    }
}

/// The time by the runtime's clock, which that of the deadlines is.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests;
