//! Which node takes which job. Pure: what nodes say and `now` in, a lane out; no I/O, no clock and no task of its own.
//!
//! Begin with [`Router`], which a gateway has one of for each pool. `rendezvous` says in which order an adapter likes the nodes,
//! `traffic` on how many of them it is kept, and `lane` how full a lane may be. `docs/decisions/routing.md` says why, and
//! `souk bench fleet` what it comes to at 1,000 nodes.

mod lane;
mod rendezvous;
mod router;
mod settings;
mod traffic;

pub use self::rendezvous::Rendezvous;
pub use self::router::{Choice, Job, Router, Stranger, Why};
pub use self::settings::RoutingSettings;
