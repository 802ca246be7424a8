//! From the events of jobs to replies: text, finish, usage; whole or as a stream.
//!
//! Begin with `respond`, which makes an HTTP answer of a call, then `one`, which makes pieces of a job's events.

pub(crate) mod collect;
pub(crate) mod hooked;
pub(crate) mod interleave;
pub(crate) mod kept;
pub mod logprobs;
pub(crate) mod one;
pub(crate) mod piece;
pub(crate) mod respond;
pub(crate) mod rules;
pub(crate) mod shape;
mod sse;
mod text;
pub(crate) mod told;
pub mod usage;
