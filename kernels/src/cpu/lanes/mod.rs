//! The kernels, written once over sixteen lanes (`crate::cpu::isa::simd`). Fronts in `crate::cpu::ops` have checked
//! every shape.

pub(crate) mod attention;
pub(crate) mod best;
pub(crate) mod exp;
pub(crate) mod expand;
pub(crate) mod float;
pub(crate) mod math;
pub(crate) mod matmul_float;
pub(crate) mod matmul_quantized;
pub(crate) mod output;
pub(crate) mod rope;
pub(crate) mod rows;
pub(crate) mod shrink;
