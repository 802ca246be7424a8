//! Where gateway and node meet: the [`JobQueue`] port with its implementations in memory and in Redis, and the event stream back.
//!
//! The queue moves jobs and decides whose turn it is. It does not run them, does not carry tokens (those go through
//! [`events`]), and does not know HTTP, SQL or models. Begin with [`port::JobQueue`], whose documentation says what
//! happens on a crash, a redelivery and a disconnect; then [`memory::MemoryQueue`], then [`redis::RedisQueue`]. `tests/conformance` is the
//! contract that every implementation has to pass.

pub mod config;
pub mod error;
pub mod events;
pub mod failover;
pub mod memory;
pub mod nodes;
pub mod popular;
pub mod port;
pub mod redis;
pub mod words;

pub use config::QueueConfig;
pub use error::{FullScope, QueueError, QueueFull};
pub use events::{Closed, EventHub, EventSink, EventSinks, Gone, Loss, Losses, SoFar, Subscription, Wait};
pub use failover::take_back_losses;
pub use memory::MemoryQueue;
pub use nodes::{
    AdapterTier, LaneStatus, MOST_RESIDENT_NAMED, NodeCapacity, NodeLimits, NodeLoad, NodeStatus, PROTOCOL_VERSION,
    ResidentAdapter,
};
pub use popular::{MOST_POPULAR_NAMED, POPULAR_FOR, Popular};
pub use port::{JobQueue, WRITE_DOWN};
pub use redis::RedisQueue;
pub use words::{
    Cancelled, Claim, DeadLetter, Delivered, Delivery, JobState, LaneStats, Lease, LeaseProgress, Life, NodeOrder,
    Notice, NoticeKind, NumberedOrder, ORDERS_KEPT, OrderNumber, Orphan, OrphanJob, PoolStats, Priority, ReplyTo,
    Settled, Settlement, Submission, Submitted, UNPOSTED_KEPT,
};
