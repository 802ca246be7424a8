//! The roles of the executable. Each of [`registry`], [`gateway`] and [`node`] builds its service from the settings and
//! its ports; a command says which roles run in one process and what their ports lead to. `souk serve` runs [`all`] of
//! them, whose ports are function calls and channels (`crate::ports`).

pub(crate) mod all;
pub(crate) mod gateway;
pub(crate) mod node;
pub(crate) mod registry;

mod routes;
