//! Tenants' hooks: WASM components before and after the model, in a sandbox.

pub mod words;

use wasmtime as _;
