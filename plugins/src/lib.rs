//! Tenants' hooks: WASM components before and after the model, in a sandbox.
//!
//! Begin with [`Host`], which runs them: [`Host::load`] gives a [`Hook`], whose [`prompt`](Hook::prompt), [`answer`](Hook::answer) and
//! [`open_stream`](Hook::open_stream) take [`words`] and a [`CallContext`], and give back words and what the call took. Each call has an instance of
//! its own under [`Limits`]; whatever it does is an outcome or a [`HookError`].
//!
//! An upload goes through [`intake`], which looks and compiles nothing, and then through [`Compiler`], which compiles in a process apart and seals
//! what comes of it. What the interface is, is in `wit/`.
//!
//! What is not here: names, rights and pipelines (the registry's), and where in a request hooks act (the gateway's).

pub mod cases;
pub mod intake;
pub mod words;

mod artifact;
mod bindings;
mod call;
mod compiler;
mod context;
mod engine;
mod error;
mod executor;
pub mod figures;
mod generation;
mod hook;
mod host;
mod limits;
mod measured;
mod residents;
mod settings;
mod state;
mod stream;

pub use self::artifact::{ArtifactError, SealingKey};
pub use self::compiler::{CompileError, Compiler, child_main, compile_here};
pub use self::context::{CallContext, CountTokens};
pub use self::engine::EngineHash;
pub use self::error::{HookError, HookErrorKind};
pub use self::generation::RELEASED;
pub use self::hook::Hook;
pub use self::host::{Host, HostError, LoadError};
pub use self::intake::{Export, Report};
pub use self::limits::{Limits, MAX_CARRY_BYTES, MAX_RANDOM_BYTES};
pub use self::measured::Measured;
pub use self::settings::{CompileLimits, HookSettings, MAX_THREADS, Offered, Tier};
pub use self::stream::HookStream;
