//! Registries and gateways as processes of their own: two of each, the real executable, real stores.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "times are shown and not asserted")]

#[allow(dead_code, reason = "other tests use the rest")]
mod fleet;
#[path = "../stack/mod.rs"]
mod stack;

mod calls;
mod clocks;
mod killed;
mod roles;
mod withdrawn;
