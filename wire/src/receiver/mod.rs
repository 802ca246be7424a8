//! The gateway's end: takes nodes' streams and feeds what they say into the gateway's hub.

mod accept;
mod refused;
mod route;
mod shared;
mod stream;

pub use self::accept::Receiver;
pub use self::refused::Refused;
pub use self::route::PATH;
pub use self::shared::VerifyNode;
