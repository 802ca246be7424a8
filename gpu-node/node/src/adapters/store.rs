//! Adapters in memory: requests lease them, loads run beside the engine, and what is idle goes when room is needed.

mod load;

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use souk_engine::memory::{DeviceMemory, PAGE_BYTES, Side};
use souk_models::base::LlamaWeights;
use souk_protocol::{BaseModel, Digest};
use souk_runner::DeviceAdapter;
use tokio::sync::{Notify, Semaphore};

use self::load::Load;
use super::disk::DiskTier;
use super::entry::{EntryId, Flight};
use super::error::{AdapterError, as_ms};
use super::limits::{AdapterLimits, LimitsError};
use super::residency::{Joined, Residency};
use super::source::AdapterSource;
use super::stats::AdapterStats;

/// The adapters of a node. Clones are handles to the same store.
///
/// There are two tiers with a budget each: host memory, where packed adapters are kept, and the device, where the model
/// runs. On the CPU the device is host memory, so that an adapter on both is one allocation and coming to the device is
/// an entry in the books; the device budget then bounds what running requests may hold at once.
///
/// A registered adapter costs nothing until it is asked for: the store knows only those that are here or on their way, and
/// a bounded number that failed a moment ago.
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

/// What a store has beside its memory.
#[derive(Default)]
pub struct Tiers {
    /// The device's memory, shared with K and V. `None`: the device tier is bounded by `device_bytes` alone.
    pub memory: Option<DeviceMemory>,
    /// Packed adapters on disk.
    pub disk: Option<DiskTier>,
}

struct Shared {
    source: Arc<dyn AdapterSource>,
    disk: Option<DiskTier>,
    base: Arc<BaseModel>,
    weights: Arc<LlamaWeights>,
    limits: AdapterLimits,
    // A std mutex: sections are short and have no await.
    residency: Mutex<Residency>,
    /// Bounds loads, and with them the memory that files take while they are packed.
    loads: Semaphore,
    /// The same for loads that no request waits for; apart, so that they never stand before those.
    prefetches: Semaphore,
    /// Held by the request for several adapters whose turn it is to gather them.
    turn: tokio::sync::Mutex<()>,
    /// Held by who would pass those that wait for room and may not yet; others of its kind stand behind it.
    door: tokio::sync::Mutex<()>,
    /// Rung when others may pass again.
    moved: Arc<Notify>,
    /// The most that adapters on the device can ever have.
    most_device_bytes: usize,
    /// Rung when there is a reason to look at the pool again.
    room: Arc<Notify>,
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
        Self::with_tiers(source, base, weights, limits, Tiers::default())
    }

    /// The same with memory that is shared with K and V, and a disk tier. Needs a tokio runtime if there is memory.
    ///
    /// # Errors
    /// [`LimitsError`] if the limits contradict themselves.
    pub fn with_tiers(
        source: Arc<dyn AdapterSource>,
        base: Arc<BaseModel>,
        weights: Arc<LlamaWeights>,
        limits: AdapterLimits,
        tiers: Tiers,
    ) -> Result<Self, LimitsError> {
        limits.check()?;
        let Tiers { memory, disk } = tiers;
        let most = memory.as_ref().map_or(usize::MAX, |memory| memory.most(Side::Adapters) * PAGE_BYTES);
        let room = Arc::new(Notify::new());
        let residency = Residency::new(limits, memory.clone());
        let shared = Arc::new(Shared {
            source,
            disk,
            base,
            weights,
            limits,
            moved: Arc::clone(&residency.moved),
            residency: Mutex::new(residency),
            loads: Semaphore::new(limits.max_concurrent_loads.min(Semaphore::MAX_PERMITS)),
            prefetches: Semaphore::new(limits.max_prefetches.min(Semaphore::MAX_PERMITS)),
            turn: tokio::sync::Mutex::default(),
            door: tokio::sync::Mutex::default(),
            most_device_bytes: limits.device_bytes.min(most),
            room: Arc::clone(&room),
        });
        if let Some(memory) = memory {
            tokio::spawn(watch_room(Arc::downgrade(&shared), Arc::clone(&room)));
            // The engine's thread rings; evicting is done elsewhere.
            memory.set_waker(Side::Adapters, Arc::new(move || room.notify_one()));
        }
        Ok(Self(shared))
    }

    /// Leases an adapter, loading it first if need be. However many ask for one adapter, it is loaded once. A caller
    /// that goes away does not stop the load for the others.
    ///
    /// An adapter that is on the device is leased at once, past others that wait for room, but not for ever: how often
    /// anybody is passed has a bound, see `residency/line.rs`. Do not wait for a lease with another in hand; see
    /// [`acquire_all`](Self::acquire_all).
    ///
    /// # Errors
    /// [`AdapterError`] if it cannot be loaded, or does not fit within `max_wait` since others are in use.
    pub async fn acquire(&self, digest: &Digest) -> Result<AdapterLease, AdapterError> {
        let started = Instant::now();
        let mut leases = Vec::with_capacity(1);
        for ticket in self.enter(std::slice::from_ref(digest), started).await? {
            let adapter = self.wait(&ticket, &[ticket.id], started).await?;
            leases.push(AdapterLease { adapter, _ticket: ticket });
        }
        self.publish();
        Ok(leases.pop().expect("one adapter was asked for"))
    }

    /// Leases all adapters of one request. Whoever waits for one with others in hand could wait for another who does the
    /// same, so requests for several take turns, and whose turn it is comes before those that wait for one: these hold
    /// nothing while they wait, and may be waiting for what it has in hand.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), and [`AdapterError::TogetherTooLarge`] if they do not fit side by side even alone.
    pub async fn acquire_all(&self, digests: &[Digest]) -> Result<Vec<AdapterLease>, AdapterError> {
        if let [] | [_] = digests {
            return futures::future::try_join_all(digests.iter().map(|digest| self.acquire(digest))).await;
        }
        // Loads run side by side meanwhile, and hold nothing.
        digests.iter().for_each(|digest| self.prefetch(digest));
        let started = Instant::now();
        let turn = tokio::time::timeout(self.0.limits.max_wait, self.0.turn.lock()).await;
        let _turn = turn.map_err(|_| AdapterError::LoadTimeout { waited_ms: as_ms(started.elapsed()) })?;
        let started = Instant::now();
        let tickets = self.enter(digests, started).await?;
        let all: Vec<EntryId> = tickets.iter().map(|ticket| ticket.id).collect();
        let _gathering = Gathering::begin(&self.0, &all);
        let mut leases = Vec::new();
        for ticket in tickets {
            let adapter = self.wait(&ticket, &all, started).await?;
            leases.push(AdapterLease { adapter, _ticket: ticket });
        }
        self.publish();
        Ok(leases)
    }

    /// Brings an adapter nearer whose request waits in the queue: from wherever it is to the device, as far as that takes
    /// nothing from others that are worth more. Does not wait, and a request that comes meanwhile joins the load.
    pub fn prefetch(&self, digest: &Digest) {
        let expected = self.0.lock().expect(digest, Instant::now());
        if let Some(Joined { id, flight, .. }) = expected {
            tokio::spawn(Load::new(self.clone(), id, *digest, true).run(flight));
        }
    }

    /// The most bytes that adapters on the device can ever have.
    #[must_use]
    pub fn most_device_bytes(&self) -> usize {
        self.0.most_device_bytes
    }

    /// Makes the adapter unknown to this node at once, for take-downs. Requests that run keep their lease until they
    /// end; those that wait are refused. Returns whether it was resident or being loaded.
    pub fn evict(&self, digest: &Digest) -> bool {
        let was_there = self.0.lock().take_down(digest, Instant::now());
        if let Some(disk) = &self.0.disk {
            disk.remove(digest);
        }
        if was_there {
            tracing::info!(adapter.digest = %digest, "adapter taken down");
            self.publish();
        }
        was_there
    }

    /// What is resident, and counts since the start.
    #[must_use]
    pub fn stats(&self) -> AdapterStats {
        let disk = self.0.disk.as_ref().map(DiskTier::stats);
        AdapterStats { disk, ..self.0.lock().stats(Instant::now()) }
    }

    /// Joins all of a request's adapters at once. Holds nothing while it may not pass others that wait for room.
    async fn enter(&self, digests: &[Digest], started: Instant) -> Result<Vec<Ticket>, AdapterError> {
        let shared = &self.0;
        let mut door = shared.door.try_lock().ok();
        if let Some(tickets) = self.try_enter(digests, door.is_some()) {
            return tickets;
        }
        let deadline = tokio::time::Instant::from_std(started) + shared.limits.max_wait;
        let too_late = |_| shared.lock().why_at_the_door(digests, started.elapsed());
        if door.is_none() {
            door = Some(tokio::time::timeout_at(deadline, shared.door.lock()).await.map_err(too_late)?);
        }
        loop {
            let moved = shared.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if let Some(tickets) = self.try_enter(digests, door.is_some()) {
                return tickets;
            }
            tokio::time::timeout_at(deadline, moved).await.map_err(too_late)?;
        }
    }

    /// Joins the adapters, unless the request would pass others and may not.
    fn try_enter(&self, digests: &[Digest], is_at_the_door: bool) -> Option<Result<Vec<Ticket>, AdapterError>> {
        let now = Instant::now();
        let mut residency = self.0.lock();
        if residency.passes_others(digests) && !(is_at_the_door && residency.lets_pass(digests)) {
            return None;
        }
        residency.count_pass(digests);
        let joined: Vec<_> = digests.iter().map(|digest| (digest, residency.join(digest, now))).collect();
        drop(residency);
        // All of them before the first error is looked at: each join is ended by its ticket.
        let tickets: Vec<_> =
            joined.into_iter().map(|(digest, joined)| joined.map(|joined| self.ticket(digest, joined))).collect();
        Some(tickets.into_iter().collect())
    }

    /// The caller's part in an entry. Starts the load if the caller is the first.
    fn ticket(&self, digest: &Digest, joined: Joined) -> Ticket {
        let ticket = Ticket { shared: Arc::clone(&self.0), id: joined.id, flight: joined.flight };
        if joined.must_load {
            // Not awaited by the request: the load goes on when the request does not.
            tokio::spawn(Load::new(self.clone(), joined.id, *digest, false).run(Arc::clone(&ticket.flight)));
        }
        ticket
    }

    /// Waits until the adapter is on the device, beside `all` that its request asks for.
    async fn wait(
        &self,
        ticket: &Ticket,
        all: &[EntryId],
        started: Instant,
    ) -> Result<Arc<DeviceAdapter>, AdapterError> {
        let deadline = tokio::time::Instant::from_std(started) + self.0.limits.max_wait;
        loop {
            let changed = ticket.flight.changed.notified();
            tokio::pin!(changed);
            // Listens before it looks, or a change between the two would be missed.
            changed.as_mut().enable();
            if let Some(adapter) = self.0.lock().poll(ticket.id, Instant::now())? {
                return Ok(adapter);
            }
            self.0.lock().check_fit_together(all)?;
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return Err(self.0.lock().why_waiting(ticket.id, started.elapsed()));
            }
        }
    }

    fn publish(&self) {
        let totals = self.0.lock().totals();
        totals.publish();
        if let Some(disk) = &self.0.disk {
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
        let slabs = (self.most_device_bytes as u64).saturating_mul(2);
        slabs.saturating_add(header_bytes).saturating_add(head_bytes)
    }
}

/// Looks at the pool whenever it is told to, for as long as there is a store.
async fn watch_room(store: Weak<Shared>, room: Arc<Notify>) {
    loop {
        room.notified().await;
        let Some(store) = store.upgrade() else { return };
        store.lock().look_again(Instant::now());
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // So that the watcher sees that there is nothing to watch.
        self.room.notify_one();
    }
}

/// The turn of a request for several adapters, from its entrance to its last lease.
struct Gathering<'a>(&'a Shared);

impl<'a> Gathering<'a> {
    fn begin(shared: &'a Shared, all: &[EntryId]) -> Self {
        let mut residency = shared.lock();
        residency.set_gathering(all.to_vec());
        residency.look_again(Instant::now());
        Self(shared)
    }
}

impl Drop for Gathering<'_> {
    fn drop(&mut self) {
        self.0.lock().set_gathering(Vec::new());
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

#[cfg(test)]
mod tests;
