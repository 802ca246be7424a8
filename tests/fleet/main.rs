//! Registries, gateways and nodes as processes of their own, with the queue in a Redis: what they answer, and what clients
//! notice when one of them is lost.

#![cfg(has_redis)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "times are shown and not asserted")]

mod cables;
mod field;
#[path = "../apart/fleet.rs"]
#[allow(dead_code, reason = "a part of it is used")]
mod fleet;
#[path = "../stack/mod.rs"]
mod stack;
mod streams;

mod answers;
mod certificates;
mod clocks;
mod cut_networks;
mod full_queue;
mod grants;
mod lost_database;
mod lost_gateways;
mod lost_nodes;
mod lost_redis;
mod poison;
mod prefetch;
mod refused;
mod rolling;
mod scale;
mod slow_client;
mod slow_storage;
mod stalled_redis;
mod taken_down;
