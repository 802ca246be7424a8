//! What the services' ports lead to: where all roles are in one process, and where registries are elsewhere.

pub(crate) mod adapter_files;
pub(crate) mod catalog;
pub(crate) mod events;
pub(crate) mod hook_intake;
pub(crate) mod hook_source;
pub(crate) mod known_take_downs;
pub(crate) mod pins;
pub(crate) mod redis_queue;
pub(crate) mod usage_store;
pub(crate) mod withdrawals;
