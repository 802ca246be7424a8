//! The node's end: a stream for each gateway that has sent it work.

mod dial;
mod http;
mod identity;
mod link;
mod run;
mod sinks;
mod unsent;

pub use self::dial::{Dial, DialError, Dialled, TokenSource};
pub use self::http::HttpDial;
pub use self::identity::NodeIdentity;
pub use self::sinks::Dialer;
