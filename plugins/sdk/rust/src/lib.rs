//! Hooks of Souk in Rust: a hook is a function, and one line that says so.
//!
//! ```no_run
//! use souk_hook::{hook, texts, prompt::Outcome, types::Request};
//!
//! hook! {
//!     prompt: shout,
//! }
//!
//! fn shout(mut request: Request) -> Outcome {
//!     texts::each(&mut request, |text| text.to_uppercase());
//!     Outcome::rewritten(request)
//! }
//! ```
//!
//! It is compiled for `wasm32-unknown-unknown` and linked by `wasm-component-ld`, which makes a component of it; `souk hook build` does
//! both. What each interface means is said in `hooks.wit`, and word for word in [`bindings`], which are made of it.
//!
//! Not here: WASI. A hook sees its arguments, its [`config`], its [`variables`], a [`clock`] and [`random`] bytes; files, sockets and the
//! environment are refused when it is published. Begin at [`hook!`].

#[rustfmt::skip]
#[allow(missing_docs, unsafe_op_in_unsafe_fn)]
pub mod bindings;
mod conveniences;
mod hook;
pub mod json;
mod replace;
#[rustfmt::skip]
mod sections;
pub mod stream;
pub mod texts;

pub use replace::{replace, replace_all};

pub use bindings::souk::hooks::{clock, log, random, tokenize, types, variables};

/// Before the model.
pub mod prompt {
    pub use crate::bindings::exports::souk::hooks::prompt::{Outcome, Rewritten};
}

/// After the model, for answers that are sent whole.
pub mod answer {
    pub use crate::bindings::exports::souk::hooks::answer::{Outcome, Whole};
}

/// How the hook was configured where it was attached; an empty object if it was not.
pub fn config() -> json::Value {
    json::parse(&bindings::souk::hooks::config::get()).unwrap_or_else(|_| json::Value::Object(Vec::new()))
}

#[doc(hidden)]
pub mod internals {
    pub use crate::bindings::exports::souk::hooks::{answer, describe, prompt, stream};
    pub use crate::hook::{Running, log_panics};
}
