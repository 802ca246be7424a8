//! What names mean to the gateway: which version a reference chooses, and which adapters a caller can name.

mod models;
mod resolve;

pub use models::ListedModel;
