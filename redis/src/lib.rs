//! The way to Redis, for everything here that keeps something in it.
//!
//! [`RedisSettings`] say where it is: one server, a cluster, or a master that sentinels watch. [`Servers`] connects when it is
//! first used and again after a loss, loads the functions of its [`Library`] into each server that it talks to, and finds the
//! server that has a given key. It does not know what the functions do.
//!
//! # What happens when
//!
//! - **A server is away or stalls.** A call fails within `connect_timeout` and `response_timeout`; for 100 ms after a failed
//!   connection the calls of that time are told so at once. Nothing is repeated by itself: whoever called knows whether it may be.
//! - **A server comes back, with or without its data.** The next call connects and loads the functions again.
//! - **Somebody empties a server.** A call that finds no function had no effect; it is made again on a new connection.
//! - **A sentinel names another master.** A connection that is lost, or a server that says that it is read-only, is given up and
//!   the sentinels are asked again.
//! - **A slot of a cluster moves.** The call follows the redirection, and later ones of the same tag go there at once. Slots must
//!   not be moved while they are used: a function whose keys are on two servers fails half-way.
//! - **Two versions run side by side.** A library's name has its version, and so has each function's; loading one leaves the other.

mod fault;
mod library;
mod own;
mod place;
mod server;
mod servers;
mod settings;

pub use fault::Fault;
pub use library::Library;
pub use own::Own;
pub use server::Live;
pub use servers::Servers;
pub use settings::{RedisSettings, SentinelTls};
