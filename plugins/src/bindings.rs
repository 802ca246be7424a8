//! What the engine needs to call hooks: a module for each generation of the interface, which converts between its words and ours.
//!
//! There is one generation so far. With the second, [`Bindings`] becomes a choice between them, made by the names that a component exports.

mod since_v0_1_0;

pub(crate) use self::since_v0_1_0::{Bindings, Transformer, add_to_linker};
