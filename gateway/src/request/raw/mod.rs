//! JSON values as they stand in a body, read only where somebody knows what they should be.
//!
//! A tree of values may take fifty times the memory of its text. So a body never becomes one: what is kept of it are
//! places in its text, and each is read straight into the type that it should have, whose size is bounded by the text's
//! or by a limit that is checked first.

mod compact;
mod object;
mod text;
mod value;

pub(crate) use object::Object;
pub(crate) use value::{Kind, Raw};

#[cfg(test)]
mod tests;
