//! What an operator can set: the section `[registry]` of the settings, and where the data is.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};
use souk_http::public_url::PublicUrl;
use souk_http::token::LIFETIME;
use souk_protocol::settings::{self, Checks, mebibytes, seconds};

use crate::db::DatabaseSettings;
use crate::hooks::HookBounds;
use crate::limits::LimitSettings;
use crate::objects::ObjectSettings;
use crate::secrets::SecretSource;
use crate::sign_in::SignInSettings;
use crate::webhooks::WebhookSettings;

/// Seconds of a day.
const DAY_S: u64 = 24 * 3600;

/// What a registry is opened with.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// The folder of the lock and, unless the settings say otherwise, of the pepper; in the embedded shape of the
    /// database and the objects too.
    pub data_dir: PathBuf,
    /// What the operator set.
    pub settings: RegistrySettings,
    /// Where the objects are.
    pub objects: ObjectSettings,
    /// How people sign in.
    pub sign_in: SignInSettings,
    /// What tenants may use that have no limits of their own.
    pub limits: LimitSettings,
    /// Where browsers reach the installation; `None` where the settings do not say so.
    pub public_url: Option<PublicUrl>,
}

/// The section `[registry]` of the settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistrySettings {
    /// Bytes of the largest `adapter_model.safetensors`. A rank-64 adapter on all layers of an 8B model has about 330
    /// MB in BF16.
    pub max_adapter_bytes: u64,
    /// Bytes of the largest model card.
    pub max_card_bytes: u64,
    /// Uploads that may run at once in this process, shared between tenants; more are told to come back. Each holds up
    /// to 8 MiB of the body and one file handle.
    pub max_concurrent_uploads: usize,
    /// Other requests that may be under way at once, shared between tenants. Each holds at most 64 KiB of its body.
    pub max_requests: usize,
    /// Bytes that uploads and changes by tenants leave free on the disk, for what operators do and for the database.
    #[serde(rename = "disk_reserve_mb", deserialize_with = "mebibytes::deserialize")]
    pub disk_reserve: u64,
    /// Most bytes that the files of one tenant's versions may have; `None`: its share of the disk alone bounds them.
    #[serde(rename = "max_stored_mb_per_tenant", deserialize_with = "stored")]
    pub max_stored_per_tenant: Option<u64>,
    /// Keys of a tenant that are neither revoked nor expired.
    pub max_keys_per_tenant: usize,
    /// Longest that a key which was rotated works beside its successor.
    #[serde(rename = "key_overlap_s", deserialize_with = "seconds::deserialize")]
    pub key_overlap: Duration,
    /// Adapters of a tenant.
    pub max_adapters_per_tenant: usize,
    /// Tenants that an adapter may be granted to.
    pub max_grants_per_adapter: usize,
    /// Requests for access to one adapter that a tenant may make within a day.
    pub max_access_requests_per_day: usize,
    /// Versions of an adapter. A list of them is read whole, since SQL cannot order them.
    pub max_versions_per_adapter: usize,
    /// Tags of an adapter.
    pub max_tags_per_adapter: usize,
    /// Members of a tenant, with those who have an open invitation.
    pub max_members_per_tenant: usize,
    /// Teams of a tenant.
    pub max_teams_per_tenant: usize,
    /// Whether people come in and make tenants by themselves.
    pub self_service: bool,
    /// Tenants of which a person may be an owner before they can make no further one by themselves.
    pub max_tenants_per_person: usize,
    /// An upload that sends nothing for this long is given up.
    #[serde(rename = "upload_idle_timeout_s", deserialize_with = "seconds::deserialize")]
    pub upload_idle_timeout: Duration,
    /// How long an upload that goes straight to the object store can be completed.
    #[serde(rename = "direct_upload_s", deserialize_with = "seconds::deserialize")]
    pub direct_upload_lives: Duration,
    /// Uploads of a tenant that go straight to the object store and were neither completed nor ended.
    pub max_direct_uploads_per_tenant: usize,
    /// The peppers themselves, separated by line ends or spaces; empty: they are in a file.
    #[serde(deserialize_with = "secret")]
    pub pepper: SecretString,
    /// The file of the peppers, which is never made; empty: the one in the data folder, which the first start makes.
    pub pepper_file: PathBuf,
    /// The keys that close secrets in the database, in the same form; empty: they are in a file.
    #[serde(deserialize_with = "secret")]
    pub sealing_key: SecretString,
    /// The file of these keys, which is never made; empty: the one in the data folder, which the first start makes.
    pub sealing_key_file: PathBuf,
    /// Days after which another key signs tokens.
    pub signing_key_days: u32,
    /// Files with descriptions of the base models that uploads may be made for, where no node runs in the process.
    pub base_files: Vec<PathBuf>,
    /// How long a registry may go silent before what it had begun is ended by another; renewed three times in it.
    #[serde(rename = "lease_s", deserialize_with = "seconds::deserialize")]
    pub lease: Duration,
    /// How often lapsed leases are looked for.
    #[serde(rename = "collect_every_s", deserialize_with = "seconds::deserialize")]
    pub collect_every: Duration,
    /// How often the whole object store is compared with the database.
    #[serde(rename = "sweep_every_s", deserialize_with = "seconds::deserialize")]
    pub sweep_every: Duration,
    /// How long an object to which nothing refers is kept after it was first found so. It has been there for as long,
    /// too. This is the time in which an older database can be replaced by the right one and lose nothing.
    #[serde(rename = "orphans_kept_s", deserialize_with = "seconds::deserialize")]
    pub orphans_kept: Duration,
    /// How often it is published where the chains of audit entries end.
    #[serde(rename = "publish_audit_heads_every_s", deserialize_with = "seconds::deserialize")]
    pub publish_heads_every: Duration,
    /// How long entries of audit chains are kept at least; `None` for ever.
    #[serde(rename = "audit_kept_days", deserialize_with = "days_or_none")]
    pub audit_kept: Option<Duration>,
    /// How long events and their deliveries are kept.
    #[serde(rename = "events_kept_days", deserialize_with = "days")]
    pub events_kept: Duration,
    /// How long the rows of requests and jobs are kept. The sums of their days stay.
    #[serde(rename = "usage_over_kept_days", deserialize_with = "days")]
    pub usage_kept: Duration,
    /// What hooks of tenants are bounded by.
    pub hooks: HookBounds,
    /// How webhooks are delivered.
    pub webhooks: WebhookSettings,
    /// Which database, and how it is reached.
    pub database: DatabaseSettings,
}

impl RegistryConfig {
    /// The default settings, with everything below `data_dir`.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            settings: RegistrySettings::default(),
            objects: ObjectSettings::default(),
            sign_in: SignInSettings::default(),
            limits: LimitSettings::default(),
            public_url: None,
        }
    }

    /// The database, where the settings name no other.
    #[must_use]
    pub fn sqlite_file(&self) -> PathBuf {
        self.data_dir.join("registry.sqlite")
    }

    /// Where the embedded shape keeps objects: each blob at [`souk_protocol::manifest::blob_path`] below it.
    #[must_use]
    pub fn objects_dir(&self) -> PathBuf {
        self.data_dir.join("objects")
    }
}

impl Default for RegistrySettings {
    fn default() -> Self {
        settings::defaults("registry")
    }
}

impl RegistrySettings {
    /// Says which of them cannot be used.
    pub fn check(&self, checks: &mut Checks) {
        checks.at_least("registry.max_adapter_bytes", self.max_adapter_bytes, 1);
        // The card is held in memory while it is read.
        checks.within("registry.max_card_bytes", self.max_card_bytes, 0..=64 << 20);
        checks.within("registry.max_concurrent_uploads", self.max_concurrent_uploads, 1..=4096);
        checks.within("registry.max_requests", self.max_requests, 1..=65_536);
        checks.within("registry.disk_reserve_mb", self.disk_reserve >> 20, 1..=1 << 30);
        checks.within("registry.max_stored_mb_per_tenant", self.max_stored_per_tenant.unwrap_or(0) >> 20, 0..=1 << 40);
        checks.within("registry.max_keys_per_tenant", self.max_keys_per_tenant, 1..=1_000_000);
        // Tokens of a key that was rotated end before it does.
        checks.within("registry.key_overlap_s", self.key_overlap.as_secs(), LIFETIME.as_secs()..=90 * DAY_S);
        checks.within("registry.max_adapters_per_tenant", self.max_adapters_per_tenant, 1..=1_000_000);
        checks.within("registry.max_grants_per_adapter", self.max_grants_per_adapter, 1..=1_000_000);
        checks.within("registry.max_access_requests_per_day", self.max_access_requests_per_day, 1..=1000);
        checks.within("registry.max_versions_per_adapter", self.max_versions_per_adapter, 1..=10_000);
        checks.within("registry.max_tags_per_adapter", self.max_tags_per_adapter, 1..=10_000);
        checks.within("registry.max_members_per_tenant", self.max_members_per_tenant, 1..=1_000_000);
        checks.within("registry.max_teams_per_tenant", self.max_teams_per_tenant, 1..=10_000);
        checks.within("registry.max_tenants_per_person", self.max_tenants_per_person, 1..=10_000);
        checks.within("registry.upload_idle_timeout_s", self.upload_idle_timeout.as_secs(), 1..=3600);
        // Addresses are signed for a week at most.
        checks.within("registry.direct_upload_s", self.direct_upload_lives.as_secs(), 60..=7 * DAY_S);
        checks.within("registry.max_direct_uploads_per_tenant", self.max_direct_uploads_per_tenant, 1..=1000);
        for (name, text, file) in [
            ("registry.pepper", &self.pepper, &self.pepper_file),
            ("registry.sealing_key", &self.sealing_key, &self.sealing_key_file),
        ] {
            checks.rule(text.expose_secret().is_empty() || file.as_os_str().is_empty(), || {
                let file = file.display();
                format!("{name} and {name}_file are both set, the latter to {file}; set one of them")
            });
        }
        checks.within("registry.signing_key_days", self.signing_key_days, 1..=3650);
        checks.within("registry.lease_s", self.lease.as_secs(), 1..=3600);
        checks.within("registry.collect_every_s", self.collect_every.as_secs(), 1..=3600);
        checks.within("registry.sweep_every_s", self.sweep_every.as_secs(), 1..=30 * DAY_S);
        checks.within("registry.orphans_kept_s", self.orphans_kept.as_secs(), 0..=3650 * DAY_S);
        let every_s = self.publish_heads_every.as_secs();
        checks.within("registry.publish_audit_heads_every_s", every_s, 1..=DAY_S);
        let audit_days = self.audit_kept.map_or(0, |kept| kept.as_secs() / DAY_S);
        checks.within("registry.audit_kept_days", audit_days, 0..=36_500);
        checks.within("registry.events_kept_days", self.events_kept.as_secs() / DAY_S, 1..=3650);
        // A month can be looked at row by row when it is over.
        checks.within("registry.usage_over_kept_days", self.usage_kept.as_secs() / DAY_S, 40..=36_500);
        let (retry_s, kept_s) = (self.webhooks.retry_for.as_secs(), self.events_kept.as_secs());
        checks.no_more_than("registry.webhooks.retry_for_s", retry_s, "registry.events_kept_days in seconds", kept_s);
        self.hooks.check(checks);
        self.webhooks.check(checks);
        self.database.check(checks);
    }

    /// Where the secret in the hashes of API keys comes from.
    #[must_use]
    pub fn pepper_source(&self) -> SecretSource {
        SecretSource::of_settings(&self.pepper, &self.pepper_file)
    }

    /// The age at which the key that signs tokens is followed by another.
    #[must_use]
    pub fn rotate_signing_key_after(&self) -> Duration {
        Duration::from_secs(u64::from(self.signing_key_days) * 24 * 3600)
    }

    /// Where the key comes from that closes secrets in the database.
    #[must_use]
    pub fn sealing_key_source(&self) -> SecretSource {
        SecretSource::of_settings(&self.sealing_key, &self.sealing_key_file)
    }
}

/// MiB of which 0 means that there is no such bound, as bytes.
fn stored<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    mebibytes::deserialize(deserializer).map(|bytes: u64| (bytes > 0).then_some(bytes))
}

fn days<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u32::deserialize(deserializer).map(|days| Duration::from_secs(u64::from(days) * DAY_S))
}

/// Days of which 0 means that there is no end.
fn days_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    days(deserializer).map(|kept| (!kept.is_zero()).then_some(kept))
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(settings: &RegistrySettings) -> Option<String> {
        let mut checks = Checks::default();
        settings.check(&mut checks);
        checks.finish().err().map(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_those_of_the_page_and_can_be_used() {
        let settings = RegistrySettings::default();
        assert_eq!(problems(&settings), None);
        assert!(matches!(settings.pepper_source(), SecretSource::DataFolder));
    }

    #[test]
    fn what_is_out_of_range_is_told_with_key_limit_and_value() {
        let settings = RegistrySettings {
            orphans_kept: Duration::from_secs(u64::MAX),
            max_keys_per_tenant: 0,
            disk_reserve: 0,
            ..RegistrySettings::default()
        };
        let text = problems(&settings).unwrap();
        assert!(
            text.contains("registry.orphans_kept_s must be at most 315360000; given 18446744073709551615"),
            "{text}"
        );
        assert!(text.contains("registry.max_keys_per_tenant must be at least 1; given 0"), "{text}");
        assert!(text.contains("registry.disk_reserve_mb must be at least 1; given 0"), "{text}");
    }

    #[test]
    fn the_pepper_has_one_place_and_is_never_shown() {
        let pepper = SecretString::from("1:00".to_owned());
        let mut settings = RegistrySettings { pepper, ..RegistrySettings::default() };
        assert!(matches!(settings.pepper_source(), SecretSource::Text(_)));
        assert!(!format!("{settings:?}").contains("1:00"));
        settings.pepper_file = "/run/secrets/pepper".into();
        assert!(problems(&settings).unwrap().contains("are both set, the latter to /run/secrets/pepper"));
        settings.pepper = SecretString::default();
        assert!(matches!(settings.pepper_source(), SecretSource::File(_)));
    }
}
