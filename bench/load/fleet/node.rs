//! A scripted node: places in a batch, and adapters in memory.

use std::collections::{BTreeMap, HashMap};

use souk_protocol::{Digest, NodeId, PoolId};
use souk_queue::{AdapterTier, NodeCapacity, NodeLoad, NodeStatus, ResidentAdapter};

use super::clock::Moment;

/// Names an adapter; the lowest is asked for most.
pub(super) type Adapter = usize;
/// Names a job.
pub(super) type Job = usize;

/// One node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) is_live: bool,
    places: u32,
    /// Jobs in the batch, in the order in which they came.
    pub(super) running: BTreeMap<Job, Adapter>,
    memory: HashMap<Adapter, Held>,
    /// Idle adapters by when they were used last.
    idle: BTreeMap<(Moment, Adapter), ()>,
    room: usize,
}

#[derive(Debug)]
struct Held {
    /// When it is there.
    ready: Moment,
    users: u32,
    used: Moment,
}

/// How a job found its adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// In memory.
    Here,
    /// On its way for another job, until then.
    Coming(Moment),
    /// Not here: its load begins, and this one has made room, if one had to.
    Nowhere(Option<Adapter>),
}

impl Node {
    pub(super) fn new(id: NodeId, places: u32, room: usize) -> Self {
        let (running, memory, idle) = (BTreeMap::new(), HashMap::new(), BTreeMap::new());
        Self { id, is_live: true, places, running, memory, idle, room }
    }

    pub(super) fn has_place(&self) -> bool {
        self.is_live && self.running.len() < self.places as usize
    }

    /// Takes a job into the batch. A load takes `load_time`.
    pub(super) fn begin(&mut self, job: Job, adapter: Adapter, now: Moment, load_time: Moment) -> Found {
        self.running.insert(job, adapter);
        if let Some(held) = self.memory.get_mut(&adapter) {
            if held.users == 0 {
                self.idle.remove(&(held.used, adapter));
            }
            held.users += 1;
            return if held.ready <= now { Found::Here } else { Found::Coming(held.ready) };
        }
        let is_full = self.memory.len() >= self.room;
        let gone = if is_full { self.idle.pop_first().map(|((_, adapter), ())| adapter) } else { None };
        if let Some(gone) = gone {
            self.memory.remove(&gone);
        }
        self.memory.insert(adapter, Held { ready: now + load_time, users: 1, used: now });
        Found::Nowhere(gone)
    }

    /// A job has left the batch.
    pub(super) fn end(&mut self, job: Job, now: Moment) {
        let Some(adapter) = self.running.remove(&job) else { return };
        let held = self.memory.get_mut(&adapter).expect("what runs is in memory");
        held.users -= 1;
        held.used = now;
        if held.users == 0 {
            self.idle.insert((now, adapter), ());
        }
    }

    /// The adapters in memory, those on their way included.
    pub(super) fn held(&self) -> impl Iterator<Item = Adapter> {
        self.memory.keys().copied()
    }

    /// What it says at a heartbeat.
    pub(super) fn status(&self, pool: PoolId, digests: &[Digest], now: Moment) -> NodeStatus {
        let ready = self.memory.iter().filter(|(_, held)| held.ready <= now);
        let resident =
            ready.map(|(adapter, _)| ResidentAdapter { digest: digests[*adapter], tier: AdapterTier::Device });
        let running = u32::try_from(self.running.len()).unwrap_or(u32::MAX);
        let mut resident: Vec<_> = resident.collect();
        resident.sort_unstable();
        NodeStatus {
            capacity: NodeCapacity { places: self.places, ..NodeCapacity::default() },
            load: NodeLoad { running, free_slots: self.places - running, ..NodeLoad::default() },
            resident,
            ..NodeStatus::new(self.id.clone(), pool)
        }
    }
}
