//! Hooks as the gateway has them: where their code comes from, one step in one request, and what is kept of what they do.
//!
//! Where they act is in `call/hooks/` (before the model) and in `reply/hooked/` (after it).

pub(crate) mod acting;
pub(crate) mod books;
pub(crate) mod failure;
mod lines;
pub mod shelf;
pub mod source;
pub(crate) mod tally;

pub use self::shelf::{Hooks, HooksParts};
pub use self::source::{HookSource, HookSourceError};
