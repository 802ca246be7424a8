//! Tenants' hooks: WASM components before and after the model, in a sandbox.
use wasmtime as _;
