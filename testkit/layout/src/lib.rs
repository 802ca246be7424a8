//! Holds the code to its layout.
//!
//! The program (`make lint`) finds circles: files of one crate that use each other's names, each of which can then be
//! read, moved and tested only with the others. [`modules`] reads a crate's files with syn, [`names`] finds where a
//! path leads through imports and re-exports, [`circles`] finds who reaches himself. The test of arrows compares the
//! crates' dependencies with the table in ARCHITECTURE.md. It is a package apart, so that nothing else waits for syn.

mod circles;
mod modules;
mod names;
mod tokens;
pub mod workspace;

pub use self::circles::{Circle, Edge, circles};
