//! The control plane: who may do what (tenants, API keys), and what there is (adapters, their immutable versions, tags).
//! It never runs a model, and it knows nothing of the gateway or the nodes: they ask it what a reference means
//! ([`Registry::resolve`]), who presents a key ([`Registry::authenticate`]) and for files.
//!
//! Begin with [`Registry`], then read `http/router.rs`, the table of contents of the API, and `upload/mod.rs`, the one
//! action that is more than a query.

mod registry;

mod auth;
mod catalog;
mod http;
mod idempotency;
mod take_downs;
mod upload;

mod db;
mod error;
mod limits;
mod objects;

pub use auth::{ApiKey, AuthError, MalformedKey, PepperError, RecoverError, recover_admin_key};
pub use catalog::ListedModel;
pub use db::open_sqlite;
pub use error::{Finding, RegistryError};
pub use http::{describe_metrics, openapi, router};
pub use limits::UploadLimits;
pub use objects::{BlobReader, FolderStore, ObjectStore, StagedBlob};
pub use registry::{ADMIN_TENANT, OpenError, Registry, RegistryConfig};
pub use take_downs::TakeDownListener;
