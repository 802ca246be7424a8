//! The state that the node's tasks share.

use std::sync::Arc;

use souk_engine::Engine;
use souk_engine::constraint::ConstraintCompiler;
use souk_queue::{EventSinks, JobQueue};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::NodeConfig;
use super::held_jobs::HeldJobs;
use super::milestones::Milestones;
use super::orders::Orders;
use crate::adapters::AdapterStore;

/// One per node, behind an `Arc`.
pub(super) struct NodeState {
    pub(super) config: NodeConfig,
    pub(super) queue: Arc<dyn JobQueue>,
    pub(super) events: Arc<dyn EventSinks>,
    pub(super) adapters: AdapterStore,
    pub(super) engine: Engine,
    pub(super) constraints: ConstraintCompiler,
    pub(super) held_jobs: HeldJobs,
    pub(super) orders: Orders,
    pub(super) milestones: Milestones,
    pub(super) tasks: TaskTracker,
    /// No more claims; jobs that have not reached the engine go back.
    pub(super) draining: CancellationToken,
    /// The claim loop has ended: no more jobs come.
    pub(super) claims_ended: CancellationToken,
    /// Everything stops now.
    pub(super) cut_off: CancellationToken,
}
