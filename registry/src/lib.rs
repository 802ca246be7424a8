//! The control plane: who may do what (tenants, API keys), and what there is (adapters, their immutable versions,
//! tags). It never runs a model, and it knows nothing of the gateway or the nodes: they ask it what a reference means
//! ([`Registry::resolve`]), who presents a key ([`Registry::authenticate`]) and for files.
//!
//! A registry never believes that it is alone: whatever it begins is a row under a lease (`lease.rs`), and what nobody
//! works on any more is ended by one collector among all registries of a database (`collector/`).
//!
//! Begin with [`Registry`], then read `http/router.rs`, the table of contents of the API, and `publishing/mod.rs`, the
//! one action that is more than a few queries. Handlers extract, call and shape; rules are in the folders named after
//! their nouns; SQL is in `db/`, a file for each table.

mod config;
mod database;
mod registry;

mod gates;
mod room;

mod folder_lock;
mod installation;
mod private;

mod http;

mod access;
mod adapters;
mod admin_key;
mod catalog;
mod check;
mod hooks;
mod keys;
mod limits;
mod offline;
mod people;
mod publishing;
mod recover;
mod report;
mod schema;
mod services;
mod sessions;
mod sign_in;
mod tags;
mod teams;
mod tenants;
mod tokens;
mod usage;
mod versions;
mod webhooks;

mod audit;
mod auth;
mod authority;
mod blobs;
mod changes;
mod collector;
mod events;
mod file_grants;
mod idempotency;
mod lease;
mod rights;
mod seal;
mod secrets;
mod taken_down;
mod withdrawal_lines;
mod withdrawals;

mod crash_points;
mod db;
mod error;
pub mod metrics;
mod objects;
mod slice;
mod words;

pub use admin_key::ADMIN_TENANT;
pub use audit::{AuditFault, AuditVerifier, HeadLine, VerifiedAudit};
pub use auth::{ApiKey, AuthError, MalformedKey};
pub use catalog::{ListedModel, ListedModels, WarmCatalog};
pub use check::{CheckError, CheckOptions, CheckReport, FoundBlob, check_objects};
pub use config::{RegistryConfig, RegistrySettings};
pub use crash_points::{CRASHED, CrashPoint};
pub use database::{DatabaseError, open_database};
pub use db::{DatabaseSettings, Pools, PostgresError, SslMode, open_sqlite};
pub use error::{Finding, RegistryError};
pub use hooks::{
    HookBounds, HookDescription, HookIntake, HookReport, HookTerms, InstallError, JudgedHook, NotJudged, OfferedLimit,
    OperatorsHook, SealedHook, SelfTest,
};
pub use http::{INTERNAL, openapi, public_adapters_after, router};
pub use installation::InstallationError;
pub use limits::LimitSettings;
pub use objects::{
    Addressing, Begun, BlobReader, DirectPart, DirectUploads, FolderStore, ObjectSettings, ObjectStore,
    OpenObjectsError, PartAddress, Place, S3Failure, S3Store, StagedBlob, StoredBlob, Trouble,
};
pub use offline::OfflineError;
pub use people::Role;
pub use recover::{RecoverError, recover_admin_key};
pub use registry::{OpenError, Registry};
pub use rights::{Action, Needs, RULES, Reach, Rule};
pub use schema::{SchemaError, schema_status, schema_up};
pub use secrets::{SecretError, SecretSource};
pub use sign_in::{HostLinkError, ProviderSettings, SignInSettings, sign_in_link_on_host};
pub use souk_migrations::{Kind as MigrationKind, State as Migration};
pub use tokens::TokenKey;
pub use usage::{DifferentSum, UsageCheck, check_usage};
pub use webhooks::WebhookSettings;
pub use withdrawals::{WithdrawalListener, Withdrawn};
