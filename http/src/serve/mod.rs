//! The listener: everything between a socket and the routes, with an end to every wait.
//!
//! A connection walks one road: let in by the gates ([`limits`]), the address of a proxy's client read ([`proxy`]), TLS
//! ([`tls`]), the version told by its first bytes, then hyper ([`connection`]). On that road the client may be slow in
//! six ways, and each has a time: the handshake, a request's head, a request's body ([`body`]), taking the answer
//! ([`write`](mod@write)), and saying nothing between requests. [`accept`] is the loop, and how it ends.

pub mod accept;
pub mod settings;

mod connection;

mod body;
mod pulse;
mod write;

mod descriptors;
mod limits;
mod metrics;

mod proxy;
mod tls;

pub use accept::{Listening, Server};
pub use body::{LeastRate, is_too_slow};
pub use descriptors::raise_limit;
pub use limits::Origin;
pub use metrics::describe;
pub use proxy::{ClientAddress, Networks};
pub use settings::{ServerSettings, TlsSettings};
pub use tls::{Certificate, TlsError};
