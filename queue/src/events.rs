//! The event stream of a job, from the node that runs it to the gateway that asked.
//!
//! Tokens do not go through the queue: a hundred answers of fifty tokens a second would be most of its load. They go
//! through a sink that the node opens per attempt. [`EventSinks`] is the port; [`EventHub`] is its implementation
//! inside one process, and the end of every other: what comes to a gateway over the network goes through its hub.
//!
//! A sink never blocks, since one thread serves all answers of a node. A subscription is therefore as deep as the job
//! can have events (see [`EventHub::capacity_for`]): a reader that is slow costs memory in proportion to its own
//! `max_tokens` and nothing else. Should the channel overflow all the same, the sink says [`Gone`] and the job is
//! cancelled, because a stream with a hole in it is worth less than none.
//!
//! # What happens when
//!
//! - **The way to an attempt breaks, or its node hands it over.** Whoever brought its events to the hub says so
//!   ([`EventHub::lose`]). From then on nothing of that attempt passes, and [`Losses`] has the job with all tokens that
//!   did: the gateway takes it back from its node with these, and the next attempt goes on from there.
//! - **The reader leaves.** Its sinks are closed, and the work stops at the next step.
//! - **An attempt is delivered again.** The fence takes out what has passed already.
//! - **The last event is lost on the way.** The node does not settle the job before the reader has it
//!   ([`EventSink::taken`]), so the job is delivered again and ends again in the same way.

mod fence;
mod hub;
mod port;

pub use self::fence::{Fence, NotPassed};
pub use self::hub::{EventHub, Loss, Losses, SoFar, Subscription};
pub use self::port::{Closed, EventSink, EventSinks, Gone, Wait};
