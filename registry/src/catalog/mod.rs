//! What names mean to the gateway: which version a reference chooses, and which adapters a caller can name.

mod models;
mod resolve;
mod templates;
mod warm;

pub use models::{ListedModel, ListedModels};
pub use warm::WarmCatalog;
