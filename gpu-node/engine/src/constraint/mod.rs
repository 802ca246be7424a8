//! What an answer must look like, enforced token by token.
//!
//! A [`ConstraintCompiler`] turns a [`ConstraintSpec`] into a [`Constraint`], off the engine's thread and under limits
//! of time and memory; the engine then asks the constraint before each draw which tokens are
//! [allowed](Constraint::allowed), and tells it which was [drawn](Constraint::accept). The grammar machinery is the
//! `llguidance` crate; what is ours are the vocabulary's bytes ([`vocabulary`]), the reading of sources ([`source`]),
//! and the limits: sources come from anybody, and none may cost more than is stated in [`ConstraintLimits`]. What the
//! crate does not count itself is counted beforehand ([`work`]).

mod cache;
mod compiler;
mod endless;
mod error;
mod live;
mod machine;
mod quiet;
mod source;
mod vocabulary;
mod wanted;
mod work;

#[cfg(test)]
mod tests;

#[cfg(doc)]
use souk_protocol::ConstraintSpec;

pub use self::compiler::ConstraintCompiler;
pub use self::error::ConstraintError;
pub use self::live::Constraint;
pub use souk_protocol::ConstraintLimits;
