//! The SQL side: one file per table, with its row and every query of it; opening a database, beginning transactions,
//! moments. No rules: those live in the folders named after their nouns.
//!
//! A model is what sea-orm calls a row, and a module of a table has the items that its derive needs (`Entity`,
//! `Column`, …); outside of this folder rows go by the names below. What the tables mean is written in `migrations/`.
#![expect(unreachable_pub, reason = "sea-orm's derives need `pub` models, and this module is private to the crate")]

/// Writes the two items that every entity needs and that are empty for all of ours: rows are joined by hand.
macro_rules! no_relations {
    () => {
        #[derive(Copy, Clone, Debug, sea_orm::EnumIter, sea_orm::DeriveRelation)]
        pub enum Relation {}

        impl sea_orm::ActiveModelBehavior for ActiveModel {}
    };
}

mod settings;

mod many;
mod write;

mod connection;
mod postgres;

mod clock;

pub(crate) mod access_requests;
pub(crate) mod adapter_gates;
pub(crate) mod adapter_grants;
pub(crate) mod adapters;
pub(crate) mod api_keys;
pub(crate) mod audit_entries;
pub(crate) mod audit_heads;
pub(crate) mod blobs;
pub(crate) mod data_map;
pub(crate) mod direct_uploads;
pub(crate) mod hook_days;
pub(crate) mod hook_grants;
pub(crate) mod hook_limits;
pub(crate) mod hook_lines;
pub(crate) mod hook_settings;
pub(crate) mod hook_versions;
pub(crate) mod hooks;
pub(crate) mod idempotent_requests;
pub(crate) mod identities;
pub(crate) mod installation;
pub(crate) mod invitations;
pub(crate) mod leases;
pub(crate) mod limits;
pub(crate) mod login_codes;
pub(crate) mod logins;
pub(crate) mod members;
pub(crate) mod outbox;
pub(crate) mod persons;
pub(crate) mod pipelines;
pub(crate) mod published_heads;
pub(crate) mod services;
pub(crate) mod sessions;
pub(crate) mod sign_in_links;
pub(crate) mod signing_keys;
pub(crate) mod tags;
pub(crate) mod taken_down_content;
pub(crate) mod teams;
pub(crate) mod tenant_erasures;
pub(crate) mod tenant_limits;
pub(crate) mod tenant_policies;
pub(crate) mod tenants;
pub(crate) mod upload_blobs;
pub(crate) mod uploads;
pub(crate) mod usage_check;
pub(crate) mod usage_days;
pub(crate) mod usage_jobs;
pub(crate) mod usage_reading;
pub(crate) mod usage_requests;
pub(crate) mod usage_totals;
pub(crate) mod version_files;
pub(crate) mod versions;
pub(crate) mod webhook_deliveries;
pub(crate) mod webhook_endpoints;
pub(crate) mod withdrawals;

pub(crate) use clock::{moment, ms_ago, ms_in, ms_of, now_ms};
pub(crate) use connection::{
    MAX_IN, TENANTS_CHANGES, TENANTS_READS, begin_long_row_write, begin_row_write, begin_start, begin_write,
    begin_write_of, is_unique_violation,
};
pub use connection::{Pools, open_sqlite};
pub use postgres::PostgresError;
pub use settings::{DatabaseSettings, SslMode};

pub(crate) use adapters::Model as AdapterRow;
pub(crate) use api_keys::Model as KeyRow;
pub(crate) use audit_entries::Model as AuditEntryRow;
pub(crate) use direct_uploads::Model as DirectUploadRow;
pub(crate) use hook_limits::Model as HookLimitsRow;
pub(crate) use hook_versions::Model as HookVersionRow;
pub(crate) use hooks::Model as HookRow;
pub(crate) use invitations::Model as InvitationRow;
pub(crate) use limits::Model as LimitRow;
pub(crate) use login_codes::Model as CodeRow;
pub(crate) use logins::Model as LoginRow;
pub(crate) use members::Model as MemberRow;
pub(crate) use persons::Model as PersonRow;
pub(crate) use pipelines::Model as PipelineRow;
pub(crate) use published_heads::Model as PublishedHeadRow;
pub(crate) use services::Model as ServiceRow;
pub(crate) use sessions::Model as SessionRow;
pub(crate) use sign_in_links::Model as LinkRow;
pub(crate) use tags::Model as TagRow;
pub(crate) use teams::Model as TeamRow;
pub(crate) use tenant_erasures::Model as TenantErasureRow;
pub(crate) use tenant_limits::Model as TenantLimitsRow;
pub(crate) use tenants::Model as TenantRow;
pub(crate) use uploads::Model as UploadRow;
pub(crate) use usage_days::Model as UsageDayRow;
pub(crate) use usage_jobs::Model as UsageJobRow;
pub(crate) use usage_requests::Model as UsageRequestRow;
pub(crate) use version_files::Model as FileRow;
pub(crate) use versions::Model as VersionRow;
pub(crate) use webhook_deliveries::Model as DeliveryRow;
pub(crate) use webhook_endpoints::Model as WebhookEndpointRow;
