//! What tests of several crates make, once: numbers that repeat ([`Random`]), descriptions of base models ([`base`]),
//! the files of an adapter ([`peft`]), jobs ([`job`]), histograms that are read back ([`histogram`]), records of usage ([`usage`]), a provider of identities ([`oidc`]), certificates
//! ([`certificates`]), a PostgreSQL
//! server ([`postgres`]), a Redis server ([`redis`]), a network that fails ([`proxy`]), bytes that nobody thought of ([`fuzz()`]), and an allocator that counts
//! ([`CountingAllocator`]). Only tests and benchmarks depend on it.
//!
//! `what_is_there.rs` beside this crate is the build script of every crate that has tests on the shared fixtures.

pub mod base;
pub mod certificates;
mod counting;
mod fuzz;
pub mod histogram;
mod installed;
pub mod job;
pub mod oidc;
pub mod peft;
pub mod postgres;
pub mod proxy;
mod random;
pub mod redis;
pub mod usage;

pub use self::counting::CountingAllocator;
pub use self::fuzz::fuzz;
pub use self::random::{Random, hash};
