//! A lane as the router knows it: what its node said last, and what has happened since.

use souk_protocol::Digest;
use souk_queue::{AdapterTier, LaneStatus};

use crate::rendezvous::Rendezvous;
use crate::settings::RoutingSettings;

/// One lane of a pool.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    pub(crate) status: LaneStatus,
    pub(crate) rendezvous: Rendezvous,
    /// Jobs that this router sent here since the status was read, and those of its jobs that ended since.
    pub(crate) sent: u32,
    pub(crate) ended: u32,
    /// Jobs that this router sent here and that have not ended.
    pub(crate) under_way: u32,
}

impl Lane {
    pub(crate) fn new(mut status: LaneStatus, under_way: u32) -> Self {
        // Nodes name them in this order; that of a node which does not is put right here, since they are searched.
        status.node.resident.sort_unstable();
        Self { rendezvous: Rendezvous::of(&status.node.node), status, sent: 0, ended: 0, under_way }
    }

    pub(crate) fn places(&self) -> u32 {
        self.status.node.capacity.places.max(1)
    }

    /// Jobs here, as far as is known. A node says how many it runs once a second, so jobs that it took since are in no number but
    /// those of who sent them.
    pub(crate) fn load(&self) -> u32 {
        let queued = u32::try_from(self.status.queued).unwrap_or(u32::MAX);
        let said = self.status.node.load.running.saturating_add(queued);
        said.saturating_add(self.sent).saturating_sub(self.ended).max(self.under_way)
    }

    /// How full it is, where 1 is a job in every place or every KV block in use. More than 1 where jobs wait.
    pub(crate) fn fullness(&self) -> f64 {
        let node = &self.status.node;
        let blocks = f64::from(node.capacity.kv_blocks.max(1));
        let used = node.capacity.kv_blocks.saturating_sub(node.load.free_kv_blocks);
        (f64::from(self.load()) / f64::from(self.places())).max(f64::from(used) / blocks)
    }

    /// Where in the node's memory an adapter is, as the node said last.
    pub(crate) fn tier_of(&self, adapter: &Digest) -> Option<AdapterTier> {
        let resident = &self.status.node.resident;
        let at = resident.binary_search_by(|one| one.digest.cmp(adapter)).ok()?;
        Some(resident[at].tier)
    }

    /// Whether it may be sent a job, where `total` jobs are in the pool with the new ones and all lanes together have `places`.
    pub(crate) fn has_room(&self, total: u64, places: u64, settings: &RoutingSettings) -> bool {
        u64::from(self.load()) < bound(self.places(), total, places, settings)
    }
}

/// How many jobs a lane of `own` places may have before the next lane is asked. The bounds of all lanes sum to more than
/// `total`, so one of them always has room.
pub(crate) fn bound(own: u32, total: u64, places: u64, settings: &RoutingSettings) -> u64 {
    let share = total as f64 * f64::from(own) / places.max(1) as f64;
    let bound = (settings.load_bound * share).ceil().max((settings.always_room * f64::from(own)).ceil());
    bound as u64
}
