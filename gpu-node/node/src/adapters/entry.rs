//! One adapter in the books of the tiers, and what evicting it would cost.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use souk_models::adapter::PackedAdapter;
use souk_protocol::{Digest, TenantId};
use souk_runner::DeviceAdapter;

use super::error::{AdapterError, Tier};

/// Names one stay of an adapter; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct EntryId(pub(super) u64);

/// For whom an adapter is used: a tenant, or the node itself (`None`) for what it pins.
pub(super) type Holder = Option<TenantId>;

/// What one holder has of an entry.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Uses {
    users: usize,
    holds: usize,
}

#[derive(Debug)]
pub(super) struct AdapterEntry {
    pub(super) digest: Digest,
    pub(super) state: State,
    /// Leases and requests that wait for one. They keep the adapter in host memory.
    pub(super) users: usize,
    /// Those of the users that keep it on the device, or wait for it to come there.
    pub(super) holds: usize,
    /// Whose the users are; who has none is not in here.
    pub(super) holders: HashMap<Holder, Uses>,
    /// Why it will not come. No request finds it any more; it goes when its last user does.
    pub(super) refusal: Option<AdapterError>,
    /// It came ahead of its first request.
    pub(super) is_prefetched: bool,
    /// Bytes that it holds of the host budget, reserved or in use.
    pub(super) bytes: usize,
    pub(super) popularity: Popularity,
    pub(super) last_used: Instant,
    pub(super) reload: Reload,
}

/// What it takes to bring an adapter back into host memory.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reload {
    /// Work of the last load.
    pub(super) measured: Duration,
    /// Whether that load was from disk.
    pub(super) was_on_disk: bool,
    /// Whether the next one will be.
    pub(super) is_on_disk: bool,
}

/// How long reading from disk takes for each byte: an average in which the last ten or so count. `None` before the
/// first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DiskPace(Option<f64>);

#[derive(Debug)]
pub(super) enum State {
    /// A load is under way and has not asked for memory yet.
    Loading,
    /// The load waits for this many bytes of host memory.
    WaitsForMemory(usize),
    /// The load has its memory.
    Reserved,
    /// Packed, in host memory.
    Host(Arc<PackedAdapter>),
    /// On the device too.
    Device(Resident),
    /// Nothing came of it.
    Failed,
}

/// An adapter on the device, and what it was made of.
#[derive(Debug)]
pub(super) struct Resident {
    pub(super) packed: Arc<PackedAdapter>,
    pub(super) on_device: Arc<DeviceAdapter>,
}

impl Resident {
    /// Brings a packed adapter to the device, which is the CPU.
    pub(super) fn new(packed: Arc<PackedAdapter>) -> Self {
        Self { on_device: Arc::new(Arc::clone(&packed).on_cpu()), packed }
    }
}

impl AdapterEntry {
    pub(super) fn add_user(&mut self, holder: &Holder, holds: bool) {
        self.users += 1;
        self.holders.entry(holder.clone()).or_default().users += 1;
        if holds {
            self.hold(holder);
        }
    }

    /// One of the holder's users keeps it on the device from now on.
    pub(super) fn hold(&mut self, holder: &Holder) {
        self.holds += 1;
        self.holders.entry(holder.clone()).or_default().holds += 1;
    }

    /// One of the holder's users keeps it on the device no longer.
    pub(super) fn let_go(&mut self, holder: &Holder) {
        self.holds -= 1;
        if let Some(uses) = self.holders.get_mut(holder) {
            uses.holds -= 1;
        }
    }

    pub(super) fn remove_user(&mut self, holder: &Holder, held: bool) {
        self.users -= 1;
        self.holds -= usize::from(held);
        if let Some(uses) = self.holders.get_mut(holder) {
            uses.users -= 1;
            uses.holds -= usize::from(held);
            if uses.users == 0 {
                self.holders.remove(holder);
            }
        }
    }

    /// Who uses it in this tier.
    pub(super) fn holders_in(&self, tier: Tier) -> impl Iterator<Item = &Holder> {
        let uses = move |uses: &Uses| match tier {
            Tier::Host => uses.users,
            Tier::Device => uses.holds,
        };
        self.holders.iter().filter(move |(_, of_holder)| uses(of_holder) > 0).map(|(holder, _)| holder)
    }

    /// Whether it takes room in the tier that no other can have.
    pub(super) fn is_in_use(&self, tier: Tier) -> bool {
        self.is_in(tier) && !self.is_evictable(tier)
    }

    pub(super) fn is_in(&self, tier: Tier) -> bool {
        match tier {
            Tier::Host => self.bytes > 0,
            Tier::Device => matches!(self.state, State::Device(_)),
        }
    }

    pub(super) fn is_evictable(&self, tier: Tier) -> bool {
        match tier {
            Tier::Host => self.is_in_memory() && self.users == 0,
            Tier::Device => matches!(self.state, State::Device(_)) && self.holds == 0,
        }
    }

    /// Whether it is packed, in host memory or on the device too.
    pub(super) fn is_in_memory(&self) -> bool {
        matches!(self.state, State::Host(_) | State::Device(_))
    }

    /// Whether a load works on it.
    pub(super) fn is_loading(&self) -> bool {
        matches!(self.state, State::Loading | State::WaitsForMemory(_) | State::Reserved)
    }

    /// What evicting the adapter is expected to cost for each byte that it frees: how likely it is asked for, times
    /// what it takes to bring it back. To the device it is copied, which costs in proportion to its bytes; into host
    /// memory it is read from disk or fetched and packed.
    pub(super) fn value(&self, tier: Tier, disk: DiskPace, now: Instant, half_life: Duration) -> f64 {
        let popularity = self.popularity.at(now, half_life);
        match tier {
            Tier::Device => popularity,
            Tier::Host => popularity * self.reload.seconds(disk, self.bytes) / self.bytes.max(1) as f64,
        }
    }
}

impl Reload {
    /// Seconds that bringing `bytes` back is expected to take.
    fn seconds(self, disk: DiskPace, bytes: usize) -> f64 {
        let measured = self.measured.as_secs_f64();
        match disk.0 {
            Some(pace) if self.is_on_disk && !self.was_on_disk => measured.min(pace * bytes as f64),
            _ => measured,
        }
    }
}

impl DiskPace {
    pub(super) fn measured(&mut self, took: Duration, bytes: usize) {
        let pace = took.as_secs_f64() / bytes.max(1) as f64;
        self.0 = Some(self.0.map_or(pace, |average| average + 0.1 * (pace - average)));
    }
}

/// A count of uses that fades: half of it is gone after each half-life.
#[derive(Clone, Copy, Debug)]
pub(super) struct Popularity {
    count: f64,
    counted_at: Instant,
}

impl Popularity {
    pub(super) fn new(now: Instant) -> Self {
        Self { count: 1.0, counted_at: now }
    }

    pub(super) fn at(self, now: Instant, half_life: Duration) -> f64 {
        let half_lives = now.saturating_duration_since(self.counted_at).as_secs_f64() / half_life.as_secs_f64();
        self.count * (-half_lives).exp2()
    }

    pub(super) fn count_use(&mut self, now: Instant, half_life: Duration) {
        *self = Self { count: self.at(now, half_life) + 1.0, counted_at: now };
    }
}
