//! What an operator can set.

use std::path::PathBuf;
use std::time::Duration;

use crate::auth::PepperSource;

/// What an operator can set.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// The folder of the lock and, unless `pepper` says otherwise, of the pepper; in the embedded shape of the database
    /// and the objects too.
    pub data_dir: PathBuf,
    /// Where the secret in the hashes of API keys comes from.
    pub pepper: PepperSource,
    /// Bounds on uploads.
    pub uploads: UploadLimits,
    /// How long a registry may go silent before what it had begun is ended by another; renewed three times in it.
    pub lease: Duration,
    /// When what nobody works on any more is removed.
    pub collector: CollectorConfig,
}

/// Bounds on uploads.
#[derive(Clone, Debug)]
pub struct UploadLimits {
    /// Largest `adapter_model.safetensors`. A rank-64 adapter on all layers of an 8B model has about 330 MB in BF16.
    pub weights_bytes: u64,
    /// Largest model card.
    pub card_bytes: u64,
    /// Uploads that may run at once in this process; more are told to come back. Each holds up to 8 MiB of the body
    /// and one file handle.
    pub max_concurrent: usize,
    /// An upload that sends nothing for this long is given up.
    pub idle_timeout: Duration,
}

/// When what nobody works on any more is removed.
#[derive(Clone, Debug)]
pub struct CollectorConfig {
    /// How often lapsed leases are looked for.
    pub interval: Duration,
    /// How often the whole object store is compared with the database.
    pub sweep_interval: Duration,
    /// How long an object to which nothing refers is kept after it was first found so. It has been there for as long,
    /// too. This is the time in which an older database can be replaced by the right one and lose nothing.
    pub orphans_kept: Duration,
}

impl RegistryConfig {
    /// The default limits, with everything below `data_dir`.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            pepper: PepperSource::default(),
            uploads: UploadLimits::default(),
            lease: Duration::from_secs(15),
            collector: CollectorConfig::default(),
        }
    }

    /// Where the embedded shape keeps objects: each blob at [`souk_protocol::manifest::blob_path`] below it.
    #[must_use]
    pub fn objects_dir(&self) -> PathBuf {
        self.data_dir.join("objects")
    }
}

impl Default for UploadLimits {
    fn default() -> Self {
        Self { weights_bytes: 1 << 30, card_bytes: 1 << 20, max_concurrent: 16, idle_timeout: Duration::from_secs(30) }
    }
}

impl Default for CollectorConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            sweep_interval: Duration::from_secs(60 * 60),
            orphans_kept: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }
}
