//! What a gateway that runs apart knows of the installation's registries: it asks them over HTTP who calls and what names
//! mean ([`HttpCatalog`]), has them write what was used ([`HttpUsage`]), fetches files from them ([`Registries::open`]), and hears what they withdraw.
//!
//! It knows several and turns to the next when one fails. What they say of rights is believed for less than a second, then
//! asked again; when none answers, what was known is believed for some seconds more ([`Settings::stale`]), but never of what
//! is known to be withdrawn. Begin with `catalog.rs`, then `hearing.rs`.

mod settings;

mod catalog;
mod rights;
mod token_keys;

mod hearing;
mod lines;

mod clients;
mod files;
mod hooks;
mod registries;
mod service_token;
mod usage;

pub mod metrics;

pub use catalog::{HttpCatalog, NotANode};
pub use files::FileReader;
pub use hearing::Withdrawn;
pub use hooks::HttpHooks;
pub use registries::{AskError, Registries};
pub use settings::{KeySource, Settings, SettingsError};
pub use usage::HttpUsage;
