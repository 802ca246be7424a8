//! Limits inside one process.
//!
//! What is known of a tenant lies behind one of a few std mutexes. Each operation is a short section without await, the same step
//! that a remote store runs as one function. Time is tokio's, so that tests can pause it.
//!
//! One process holds all that is held, so nothing is to be gathered: it says what its journal holds with
//! [`restore`](Limits::restore) before it takes requests.
//!
//! # Memory
//!
//! A request under way takes about half a kilobyte until it is counted, and so does a tenant, team, member or key until its
//! buckets are full and nobody has used it for [`IDLE`](crate::port::IDLE). What is settled and never counted is let go a day
//! after its month. Requests that have ended and are kept for repeats take what the constructor says; beyond that the oldest
//! is forgotten.

mod buckets;
mod holdings;
mod levels;
mod repeats;
mod shard;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use souk_protocol::{Digest, RequestId, TenantId, Total};
use tokio::time::Instant;

use self::repeats::KnownRepeats;
use self::shard::Shard;
use crate::error::{LimitsError, ReserveError};
use crate::port::Limits;
use crate::repeats::{KeptAnswer, RepeatKey, RepeatState, Repeats};
use crate::words::{Amounts, Ask, Held, Reserved};

/// As many as make a wait for another tenant's step rare on the machines that there are.
const NUM_SHARDS: usize = 16;

/// The in-memory [`Limits`] and [`Repeats`]. What they know lives as long as the process.
#[derive(Debug)]
pub struct MemoryLimits {
    began: Instant,
    shards: [Mutex<Shard>; NUM_SHARDS],
    hasher: RandomState,
    repeats: Mutex<KnownRepeats>,
}

/// How much is known, for figures and for tests of what is forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemorySizes {
    /// Requests that something is held for.
    pub holdings: usize,
    /// Tenants, teams, members and keys that something is known of.
    pub levels: usize,
    /// Keys of repeats.
    pub repeats: usize,
    /// Bytes that those of ended requests take.
    pub repeat_bytes: usize,
}

impl MemoryLimits {
    /// Nothing is held and no total is known. Ended requests that are kept for repeats take at most `max_repeat_bytes`.
    #[must_use]
    pub fn new(max_repeat_bytes: usize) -> Self {
        Self {
            began: Instant::now(),
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            repeats: Mutex::new(KnownRepeats::new(max_repeat_bytes)),
        }
    }

    /// How much is known now.
    #[must_use]
    pub fn sizes(&self) -> MemorySizes {
        let mut sizes = MemorySizes::default();
        for shard in &self.shards {
            let (holdings, levels) = lock(shard).sizes();
            sizes.holdings += holdings;
            sizes.levels += levels;
        }
        (sizes.repeats, sizes.repeat_bytes) = lock(&self.repeats).sizes();
        sizes
    }

    /// Runs one step on what is known of a tenant, after all that fell due has happened.
    fn step<R>(&self, tenant: &TenantId, act: impl FnOnce(&mut Shard, u64) -> R) -> R {
        let place = usize::try_from(self.hasher.hash_one(tenant)).unwrap_or_default() % NUM_SHARDS;
        let mut shard = lock(&self.shards[place]);
        let now_ms = self.now_ms();
        shard.sweep(now_ms);
        act(&mut shard, now_ms)
    }

    fn step_of_repeats<R>(&self, act: impl FnOnce(&mut KnownRepeats, u64) -> R) -> R {
        let mut repeats = lock(&self.repeats);
        let now_ms = self.now_ms();
        repeats.sweep(now_ms);
        act(&mut repeats, now_ms)
    }

    /// Milliseconds since the store began. Read under the lock, so that moments come in order.
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No step panics half-way through a change of its own making; refusing all requests for ever would be worse.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Limits for MemoryLimits {
    async fn reserve(&self, ask: &Ask) -> Result<Reserved, ReserveError> {
        self.step(&ask.tenant, |shard, now_ms| shard.reserve(ask, now_ms))
    }

    async fn settle(&self, tenant: &TenantId, request: &RequestId, used: Amounts) -> Result<(), LimitsError> {
        self.step(tenant, |shard, now_ms| shard.settle(tenant, request, used, now_ms));
        Ok(())
    }

    async fn count(&self, tenant: &TenantId, totals: &[Total], written: &[RequestId]) -> Result<(), LimitsError> {
        self.step(tenant, |shard, now_ms| shard.count(tenant, totals, written, now_ms));
        Ok(())
    }

    async fn renew(&self, tenant: &TenantId, requests: &[RequestId]) -> Result<Vec<RequestId>, LimitsError> {
        Ok(self.step(tenant, |shard, now_ms| shard.renew(tenant, requests, now_ms)))
    }

    async fn restore(&self, held: &[Held]) -> Result<(), LimitsError> {
        for held in held {
            self.step(&held.ask.tenant, |shard, now_ms| shard.restore(held, now_ms));
        }
        Ok(())
    }
}

#[async_trait]
impl Repeats for MemoryLimits {
    async fn begin(
        &self,
        tenant: &TenantId,
        key: RepeatKey,
        fingerprint: Digest,
        request: &RequestId,
    ) -> Result<RepeatState, LimitsError> {
        let key = (tenant.clone(), key);
        Ok(self.step_of_repeats(|repeats, now_ms| repeats.begin(key, fingerprint, request, now_ms)))
    }

    async fn renew(&self, tenant: &TenantId, keys: &[(RepeatKey, RequestId)]) -> Result<(), LimitsError> {
        self.step_of_repeats(|repeats, now_ms| {
            for (key, request) in keys {
                repeats.renew((tenant.clone(), *key), request, now_ms);
            }
        });
        Ok(())
    }

    async fn end(
        &self,
        tenant: &TenantId,
        key: RepeatKey,
        request: &RequestId,
        answer: Option<KeptAnswer>,
    ) -> Result<(), LimitsError> {
        self.step_of_repeats(|repeats, now_ms| repeats.end((tenant.clone(), key), request, answer, now_ms));
        Ok(())
    }

    async fn forget(&self, tenant: &TenantId, key: RepeatKey, request: &RequestId) -> Result<(), LimitsError> {
        self.step_of_repeats(|repeats, _| repeats.forget(&(tenant.clone(), key), request));
        Ok(())
    }
}
