//! Limits and usage as a whole: the real executable, killed at random and at each point of a call, its database away, two gateways
//! at one Redis.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../apart/fleet.rs"]
#[allow(dead_code, reason = "a part of it is used")]
mod fleet;
mod rows;
#[path = "../stack/mod.rs"]
mod stack;

mod away;
mod calls;
mod crashes;
mod kills;
mod races;
