//! Settings: `config/default.toml`, then a file, then `SOUK_SECTION__KEY` variables, then flags.

mod data;
mod log;
mod model;
mod node;

mod read;
mod role;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use souk_engine::{EngineConfig, MemorySettings};
use souk_gateway::GatewayLimits;
use souk_http::cors::CorsConfig;
use souk_http::serve::ServerSettings;
use souk_node::adapters::AdapterSettings;
use souk_plugins::HookSettings;
use souk_protocol::ConstraintLimits;
use souk_protocol::settings::{Checks, PAGE, SettingsError};
use souk_queue::QueueConfig;
use souk_redis::RedisSettings;
use souk_registry::{LimitSettings, ObjectSettings, RegistryConfig, RegistrySettings, SignInSettings};
use souk_wire::WireSettings;

pub(crate) use data::DataConfig;
pub(crate) use log::{LogConfig, LogFormat};
pub(crate) use model::ModelConfig;
pub(crate) use node::NodeSettings;
pub(crate) use role::Role;

use read::Read;

/// All settings, one field per section of `config/default.toml`, which says what each one bounds. What only the
/// executable has to know is read by structs here, the rest by those of the crates that it is for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) server: ServerSettings,
    pub(crate) data: DataConfig,
    pub(crate) model: ModelConfig,
    pub(crate) memory: MemorySettings,
    pub(crate) engine: EngineConfig,
    pub(crate) adapters: AdapterSettings,
    pub(crate) constraints: ConstraintLimits,
    pub(crate) queue: QueueConfig,
    pub(crate) wire: WireSettings,
    pub(crate) gateway: GatewayLimits,
    pub(crate) node: NodeSettings,
    pub(crate) hooks: HookSettings,
    pub(crate) cors: CorsConfig,
    pub(crate) registry: RegistrySettings,
    pub(crate) limits: LimitSettings,
    pub(crate) redis: RedisSettings,
    pub(crate) sign_in: SignInSettings,
    pub(crate) objects: ObjectSettings,
    pub(crate) log: LogConfig,
    /// The keys that a file or a variable gave, as `section.key`.
    #[serde(skip)]
    given: BTreeSet<String>,
}

impl Config {
    /// Reads the defaults, `file` if given, and the environment.
    ///
    /// # Errors
    /// If the file cannot be read, a key is unknown or a value has the wrong type or is out of range.
    pub(crate) fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> anyhow::Result<Self> {
        Self::read(PAGE, file, read::variables(environment))
    }

    fn read(page: &str, file: Option<&Path>, variables: HashMap<String, String>) -> anyhow::Result<Self> {
        let Read { settings, given } = read::read::<Self>(page, file, variables)?;
        settings.check()?;
        Ok(Self { given, ..settings })
    }

    /// Warns of settings that were given and that `role` does not read, so that nobody believes that they hold.
    pub(crate) fn say_what_is_unused(&self, role: Role) {
        let unused: Vec<&str> = self.unused_by(role).collect();
        if !unused.is_empty() {
            let unused = unused.join(", ");
            tracing::warn!("Settings that were given and that `{}` does not use: {unused}", role.command());
        }
    }

    fn unused_by(&self, role: Role) -> impl Iterator<Item = &str> {
        self.given.iter().map(String::as_str).filter(move |key| !role.uses(key))
    }

    /// Checks each section by itself and against the others.
    ///
    /// # Errors
    /// All that is wrong, with key, limit and what was given.
    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        let mut checks = Checks::default();
        self.server.check(&mut checks);
        self.memory.check(&mut checks);
        self.engine.check(&mut checks);
        self.adapters.check(&mut checks);
        self.constraints.check(&mut checks);
        self.queue.check(&mut checks);
        self.wire.check(&mut checks);
        self.gateway.check(&mut checks);
        self.node.check(&mut checks);
        self.hooks.check(&mut checks);
        self.registry.check(&mut checks);
        self.limits.check(&mut checks);
        self.redis.check(&mut checks);
        self.sign_in.check(&mut checks);
        self.objects.check(&mut checks);
        self.objects.check_sizes(self.registry.max_adapter_bytes, &mut checks);
        checks.finish()
    }

    /// What a registry on this data folder is opened with.
    pub(crate) fn registry(&self, data_dir: PathBuf) -> RegistryConfig {
        RegistryConfig {
            data_dir,
            settings: self.registry.clone(),
            objects: self.objects.clone(),
            sign_in: self.sign_in.clone(),
            limits: self.limits.clone(),
            public_url: self.server.public_url(),
        }
    }
}
