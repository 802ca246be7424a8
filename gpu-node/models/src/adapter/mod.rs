//! An adapter from numbers in a file to slabs in the layout of the kernels.

mod pack;
mod packed;

pub use self::pack::{PackError, pack, packed_bytes};
pub use self::packed::{LayerAdapter, PackedAdapter};
