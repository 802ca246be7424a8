//! The roles of the executable. Each of [`registry`], [`gateway`] and [`node`] builds its service from the settings and
//! its ports; a command says which roles run in one process and what their ports lead to. `souk serve` runs [`all`] of
//! them, whose ports are function calls and channels; `souk registry` runs the [`control_plane`] alone, and `souk gateway` the
//! [`data_plane`], whose ports to registries are HTTP (`crate::ports`). Where nodes are apart, it is a [`gateway_apart`], and
//! `souk node` a [`node_apart`]: their queue is in a Redis, and events come by a stream that the node opens.

use std::time::Duration;

pub(crate) mod all;
pub(crate) mod control_plane;
pub(crate) mod data_plane;
pub(crate) mod gateway_apart;
pub(crate) mod node_apart;

pub(crate) mod accounting;
pub(crate) mod boot;
pub(crate) mod gateway;
pub(crate) mod hooks;
pub(crate) mod node;
pub(crate) mod registry;

mod base_files;
mod listening;
mod node_seen;
mod operators_hooks;
mod registries;
mod routes;
mod signals;

/// What the end of a drain keeps for what is cut off: its clients are told, its jobs settled, the database closed.
const LAST_WORDS: Duration = Duration::from_secs(2);
