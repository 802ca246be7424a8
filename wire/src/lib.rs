//! The token path of a fleet: how events get from the node that runs a job to the gateway that asked.
//!
//! A node dials each gateway that has sent it work ([`Dialer`], the node's [`EventSinks`](souk_queue::EventSinks)): one
//! HTTP/2 stream for all jobs of the pair, with frames either way ([`frame`]). The gateway's end ([`Receiver`]) feeds them
//! into its [`EventHub`](souk_queue::EventHub), where the fence and each job's own buffer are, so that a slow client slows
//! nobody else. What a job is, who may run it and what follows a loss is the queue's and the gateway's business, not this
//! crate's.
//!
//! # What happens when
//!
//! - **A stream breaks**, or one side is silent for too long: all attempts on it are lost, on both sides. The gateway takes
//!   their jobs back with the tokens that it has, the node stops their work and gives them back; whoever comes first, the
//!   other is refused by attempt. Nothing is sent again on another stream.
//! - **A node is killed.** Its sockets close, and the gateway sees that at once; a node that is stopped or cut off it sees
//!   after `wire.silence_ms`.
//! - **A gateway is killed.** Its nodes see that at once, and give its jobs back; whoever takes them dials in vain, says so,
//!   and the queue ends them. Another gateway at the same address is not that gateway: then nobody wants the jobs.
//! - **A node reads or a gateway reads too slowly.** What waits is bounded (`wire.max_unsent_mb`); past it the stream ends.
//! - **Bytes are no frame.** That stream ends, no other; an event of a flow that is not open is dropped and counted.

pub mod frame;
mod settings;

mod receiver;

mod dialer;

pub mod metrics;

pub use dialer::{Dial, DialError, Dialer, Dialled, HttpDial, NodeIdentity, TokenSource};
pub use receiver::{PATH, Receiver, Refused, VerifyNode};
pub use settings::{SettingsError, WireSettings};
