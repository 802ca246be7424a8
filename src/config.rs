//! Settings: `config/default.toml`, then a file, then `SOUK_SECTION__KEY` variables, then flags.

mod node;
mod role;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
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

pub(crate) use node::NodeSettings;
pub(crate) use role::Role;

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

/// Where data is kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DataConfig {
    /// Folder of what must not be lost; empty: see [`Config::data_dir`].
    pub(crate) dir: String,
    /// Folder of what can be fetched again; empty: see [`Config::cache_dir`].
    pub(crate) cache_dir: String,
}

/// The base model.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelConfig {
    /// A known name, a path or an id of the hub.
    pub(crate) source: String,
    /// What callers write in `model`; empty: the model's own name.
    pub(crate) id: String,
}

/// The log on standard error.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogConfig {
    /// A tracing filter.
    pub(crate) filter: String,
    /// How lines are written.
    pub(crate) format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For machines, an object a line.
    Json,
}

/// Variables of secrets.
const SECRETS: [&str; 11] = [
    "SOUK_REDIS__URL",
    "SOUK_REDIS__PASSWORD",
    "SOUK_GATEWAY__REGISTRY_KEY",
    "SOUK_NODE__REGISTRY_KEY",
    "SOUK_HOOKS__SEALING_KEY",
    "SOUK_REGISTRY__PEPPER",
    "SOUK_REGISTRY__SEALING_KEY",
    "SOUK_REGISTRY__DATABASE__URL",
    "SOUK_REGISTRY__DATABASE__PASSWORD",
    "SOUK_OBJECTS__ACCESS_KEY_ID",
    "SOUK_OBJECTS__SECRET_ACCESS_KEY",
];

impl Config {
    /// Reads the defaults, `file` if given, and the environment.
    ///
    /// # Errors
    /// If the file cannot be read, a key is unknown or a value has the wrong type or is out of range.
    pub(crate) fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> anyhow::Result<Self> {
        // Only names with a section are settings: SOUK_API_KEY and SOUK_URL belong to the commands.
        let settings = environment.filter(|(name, _)| name.starts_with("SOUK_") && name.contains("__")).collect();
        Self::read(PAGE, file, settings)
    }

    fn read(page: &str, file: Option<&Path>, environment: HashMap<String, String>) -> anyhow::Result<Self> {
        let page = config::File::from_str(page, config::FileFormat::Toml);
        let mut builder = config::Config::builder().add_source(page);
        let mut given: BTreeSet<String> = environment.keys().filter_map(|name| key_of_variable(name)).collect();
        if let Some(path) = file {
            let file = config::File::from(path).format(config::FileFormat::Toml);
            given.extend(keys_of_file(&file));
            builder = builder.add_source(file);
        }
        // Secrets are texts whatever they look like: the password 007 is no number.
        let is_secret = |(name, _): &(String, String)| SECRETS.contains(&name.as_str()) || is_of_provider(name);
        let (secrets, environment): (HashMap<_, _>, HashMap<_, _>) = environment.into_iter().partition(is_secret);
        let secrets =
            config::Environment::with_prefix("SOUK").prefix_separator("_").separator("__").source(Some(secrets));
        let environment = config::Environment::with_prefix("SOUK")
            .prefix_separator("_")
            .separator("__")
            .try_parsing(true)
            .list_separator(",")
            .with_list_parse_key("adapters.pinned")
            .with_list_parse_key("cors.origins")
            .with_list_parse_key("gateway.registries")
            .with_list_parse_key("gateway.base_files")
            .with_list_parse_key("node.registries")
            .with_list_parse_key("redis.addresses")
            .with_list_parse_key("registry.base_files")
            .with_list_parse_key("server.trusted_proxies")
            .with_list_parse_key("registry.webhooks.allowed_networks")
            .source(Some(environment));
        let mut loaded: Self = builder
            .add_source(environment)
            .add_source(secrets)
            .build()
            .and_then(config::Config::try_deserialize)
            .context("the settings are not valid; config/default.toml lists every key")?;
        loaded.check()?;
        loaded.given = given;
        Ok(loaded)
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

    /// The data folder after resolving the default.
    ///
    /// # Errors
    /// If none is set and there is no home folder.
    pub(crate) fn data_dir(&self) -> anyhow::Result<PathBuf> {
        folder(&self.data.dir, "XDG_DATA_HOME", ".local/share", "data.dir")
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

    /// Where packed adapters are kept between runs: below the data folder. Several processes may share it.
    ///
    /// # Errors
    /// If there is no data folder.
    pub(crate) fn packed_adapters_dir(&self) -> anyhow::Result<PathBuf> {
        Ok(self.data_dir()?.join("packed"))
    }

    /// Where usage waits until it is in the database: below the data folder, which several processes may share.
    ///
    /// # Errors
    /// If there is no data folder.
    pub(crate) fn journal_dir(&self) -> anyhow::Result<PathBuf> {
        Ok(self.data_dir()?.join("journal"))
    }

    /// The cache folder after resolving the default.
    ///
    /// # Errors
    /// If none is set and there is no home folder.
    pub(crate) fn cache_dir(&self) -> anyhow::Result<PathBuf> {
        folder(&self.data.cache_dir, "XDG_CACHE_HOME", ".cache", "data.cache_dir")
    }
}

/// What `SOUK_SECTION__KEY` is called on the page.
fn key_of_variable(name: &str) -> Option<String> {
    Some(name.strip_prefix("SOUK_")?.to_lowercase().replace("__", "."))
}

/// All keys that a file gives; none where it cannot be read, which is told where it is.
fn keys_of_file(file: &impl config::Source) -> Vec<String> {
    fn collect(prefix: &str, table: config::Map<String, config::Value>, keys: &mut Vec<String>) {
        for (name, value) in table {
            let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
            match value.kind {
                config::ValueKind::Table(inner) => collect(&key, inner, keys),
                _ => keys.push(key),
            }
        }
    }
    let mut keys = Vec::new();
    collect("", file.collect().unwrap_or_default(), &mut keys);
    keys
}

/// Whether a variable says something of a provider of identities, of which each has a secret: all of that are texts.
fn is_of_provider(name: &str) -> bool {
    name.starts_with("SOUK_SIGN_IN__PROVIDERS__")
}

fn folder(setting: &str, variable: &str, below_home: &str, name: &str) -> anyhow::Result<PathBuf> {
    if !setting.is_empty() {
        return Ok(PathBuf::from(setting));
    }
    if let Some(base) = std::env::var_os(variable).filter(|value| !value.is_empty()) {
        return Ok(PathBuf::from(base).join("souk"));
    }
    let home = std::env::var_os("HOME").with_context(|| format!("there is no HOME; set {name}"))?;
    Ok(PathBuf::from(home).join(below_home).join("souk"))
}

#[cfg(test)]
mod tests {
    use souk_http::cors::CorsOrigins;

    use secrecy::ExposeSecret as _;

    use super::*;

    fn load(variables: &[(&str, &str)]) -> anyhow::Result<Config> {
        Config::load(None, variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn the_compiled_in_defaults_are_complete_and_valid() {
        let config = load(&[]).unwrap();
        assert_eq!(config.server.listen, "127.0.0.1:8080");
        assert_eq!(config.model.source, "smollm2-135m-instruct");
    }

    /// The page as a table, changed.
    fn page(change: impl FnOnce(&mut toml::Table)) -> String {
        let mut page = toml::from_str(PAGE).unwrap();
        change(&mut page);
        toml::to_string(&page).unwrap()
    }

    #[test]
    fn every_default_is_on_the_page_and_nowhere_else() {
        let whole: toml::Table = toml::from_str(PAGE).unwrap();
        for (section, keys) in &whole {
            let keys = keys.as_table().unwrap();
            for key in keys.keys() {
                let without = page(|page| drop(page[section].as_table_mut().unwrap().remove(key)));
                let error = Config::read(&without, None, HashMap::new()).expect_err(&format!("{section}.{key}"));
                assert!(format!("{error:#}").contains(key), "{section}.{key}: {error:#}");
            }
            let with = page(|page| drop(page[section].as_table_mut().unwrap().insert("another".to_owned(), 1.into())));
            let error = Config::read(&with, None, HashMap::new()).expect_err(section);
            assert!(format!("{error:#}").contains("another"), "{section}: {error:#}");
        }
    }

    #[test]
    fn what_tests_of_crates_take_for_defaults_is_what_a_server_runs_with() {
        let config = load(&[]).unwrap();
        assert_eq!(config.server, ServerSettings::default());
        assert_eq!(config.constraints, ConstraintLimits::default());
        assert_eq!(config.queue, QueueConfig::default());
        assert_eq!(config.wire, WireSettings::default());
        assert_eq!(config.memory, MemorySettings::default());
        assert_eq!(config.engine, EngineConfig::default());
        assert_eq!(config.adapters, AdapterSettings::default());
        assert_eq!(format!("{:?}", config.gateway), format!("{:?}", GatewayLimits::default()));
        assert_eq!(format!("{:?}", config.hooks), format!("{:?}", HookSettings::default()));
        assert_eq!(format!("{:?}", config.registry), format!("{:?}", RegistrySettings::default()));
        assert_eq!(config.limits, LimitSettings::default());
        assert_eq!(format!("{:?}", config.sign_in), format!("{:?}", SignInSettings::default()));
    }

    #[test]
    fn a_variable_wins_over_the_defaults_and_command_variables_are_left_alone() {
        let variables = [("SOUK_ENGINE__THREADS", "3"), ("SOUK_API_KEY", "secret"), ("SOUK_LOG__FORMAT", "json")];
        let config = load(&variables).unwrap();
        assert_eq!(config.engine.threads, 3);
        assert_eq!(config.log.format, LogFormat::Json);
    }

    #[test]
    fn what_a_role_does_not_read_is_told() {
        let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
        std::fs::write(
            file.path(),
            "[registry]\npepper = \"\"\n[registry.database]\nurl = \"\"\n[gateway]\nregistries = [\"http://a:1\"]\nmax_body_bytes = 4194304\n[sign_in]\nlinks = false\n",
        )
        .unwrap();
        let variables = [("SOUK_ENGINE__THREADS".to_owned(), "6".to_owned())];
        let config = Config::load(Some(file.path()), variables.into_iter()).unwrap();
        let unused = |role| config.unused_by(role).collect::<Vec<_>>();
        let of_registries = ["registry.database.url", "registry.pepper", "sign_in.links"];
        assert_eq!(unused(Role::Gateway), of_registries);
        assert_eq!(unused(Role::GatewayApart), [&["engine.threads"][..], &of_registries].concat());
        let of_gateways = ["gateway.max_body_bytes", "gateway.registries"];
        assert_eq!(unused(Role::Node), [&of_gateways[..], &of_registries].concat());
        assert_eq!(unused(Role::Registry), [&["engine.threads"][..], &of_gateways].concat());
        assert_eq!(unused(Role::All), ["gateway.registries"]);
        assert!(load(&[]).unwrap().unused_by(Role::Gateway).next().is_none(), "defaults are not given");
    }

    #[test]
    fn every_section_is_read_by_some_role_alone() {
        let page: toml::Table = toml::from_str(PAGE).unwrap();
        for section in page.keys() {
            let key = format!("{section}.any");
            assert!(Role::ALL.iter().filter(|role| **role != Role::All).any(|role| role.uses(&key)), "{section}");
        }
    }

    #[test]
    fn registries_are_a_list_in_the_environment_too() {
        let config = load(&[("SOUK_GATEWAY__REGISTRIES", "http://a:1,http://b:2")]).unwrap();
        assert_eq!(config.gateway.registries, ["http://a:1", "http://b:2"]);
        assert_eq!(load(&[("SOUK_GATEWAY__REGISTRIES", "http://a:1")]).unwrap().gateway.registries.len(), 1);
    }

    #[test]
    fn a_node_is_called_what_the_settings_say_or_like_nobody_else() {
        let named = load(&[("SOUK_NODE__ID", "node-1.eu_2")]).unwrap().node;
        assert_eq!(named.node_id().as_str(), "node-1.eu_2");
        let unnamed = load(&[]).unwrap().node;
        assert_ne!(unnamed.node_id(), unnamed.node_id());
        for bad in ["Node 1", "-a", &"a".repeat(65)] {
            let error = format!("{:#}", load(&[("SOUK_NODE__ID", bad)]).unwrap_err());
            assert!(error.contains("node.id") && error.contains(bad), "{error}");
        }
    }

    #[test]
    fn the_key_of_a_node_has_one_place_and_is_never_shown() {
        let key = ("SOUK_NODE__REGISTRY_KEY", "007");
        let config = load(&[key, ("SOUK_NODE__REGISTRIES", "http://a:1,http://b:2")]).unwrap();
        assert_eq!(config.node.registries, ["http://a:1", "http://b:2"]);
        assert!(!format!("{config:?}").contains("007"));
        let error = format!("{:#}", load(&[key, ("SOUK_NODE__REGISTRY_KEY_FILE", "/run/k")]).unwrap_err());
        assert!(error.contains("node.registry_key_file are both set, the latter to /run/k"), "{error}");
    }

    #[test]
    fn a_secret_is_a_text_whatever_it_looks_like() {
        for password in ["007", "true", "1e3", "a,b"] {
            let config = load(&[("SOUK_REGISTRY__DATABASE__PASSWORD", password)]).unwrap();
            assert_eq!(config.registry.database.password.expose_secret(), password);
        }
    }

    #[test]
    fn a_provider_of_identities_can_be_in_the_environment_and_its_secret_is_a_text() {
        let variable = |name: &str| format!("SOUK_SIGN_IN__PROVIDERS__EXAMPLE__{name}");
        let names = ["URL", "CLIENT_ID", "CLIENT_SECRET"].map(variable);
        let values = ["https://login.example.com", "1234", "007"];
        let variables: Vec<_> = names.iter().map(String::as_str).zip(values).collect();
        let config = load(&variables).unwrap();
        let provider = &config.sign_in.providers["example"];
        assert_eq!((provider.client_id.as_str(), provider.client_secret.expose_secret()), ("1234", "007"));
        let error =
            format!("{:#}", load(&[(names[0].as_str(), "http://login.example.com"), (&names[1], "x")]).unwrap_err());
        assert!(error.contains("sign_in.providers.example.url must begin with https://"), "{error}");
    }

    #[test]
    fn the_address_of_redis_is_a_secret_and_has_its_scheme() {
        let config = load(&[("SOUK_REDIS__URL", "redis://:hunter2@10.0.0.5:6379/0")]).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        let error = format!("{:#}", load(&[("SOUK_REDIS__URL", "10.0.0.5:hunter2")]).unwrap_err());
        assert!(error.contains("redis.url must begin with redis://") && !error.contains("hunter2"), "{error}");
        let error = format!("{:#}", load(&[("SOUK_REDIS__RESPONSE_TIMEOUT_MS", "0")]).unwrap_err());
        assert!(error.contains("redis.response_timeout_ms must be at least 1; given 0"), "{error}");
    }

    #[test]
    fn a_typo_and_a_value_out_of_range_are_errors_that_name_the_key() {
        let text = |variables: &[(&str, &str)]| format!("{:#}", load(variables).unwrap_err());
        assert!(text(&[("SOUK_ENGINE__THREAD", "3")]).contains("thread"));
        assert!(
            text(&[("SOUK_ENGINE__MAX_SEQUENCES", "0")]).contains("engine.max_sequences must be at least 1; given 0")
        );
        assert!(text(&[("SOUK_ENGINE__THREADS", "many")]).contains("threads"));
        assert!(
            text(&[("SOUK_CONSTRAINTS__MAX_MASK_WORK", "0")])
                .contains("constraints.max_mask_work must be at least 1; given 0")
        );
        assert!(
            text(&[("SOUK_CONSTRAINTS__MAX_SOURCE_BYTES", "131073")])
                .contains("constraints.max_source_bytes must be at most 131072; given 131073")
        );
    }

    #[test]
    fn pinned_adapters_are_references_in_a_file_and_in_the_environment() {
        let config = load(&[("SOUK_ADAPTERS__PINNED", "acme/tone,acme/sql:prod")]).unwrap();
        let names: Vec<_> = config.adapters.pinned.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["acme/tone", "acme/sql:prod"]);
        let error = format!("{:#}", load(&[("SOUK_ADAPTERS__PINNED", "tone")]).unwrap_err());
        assert!(error.contains("`tone` is not an adapter reference"), "{error}");
    }

    #[test]
    fn pages_of_other_origins_are_a_list_and_one_that_is_no_origin_is_named() {
        assert_eq!(load(&[]).unwrap().cors.origins, CorsOrigins::Off);
        assert_eq!(load(&[("SOUK_CORS__ORIGINS", "*")]).unwrap().cors.origins, CorsOrigins::Any);
        let config = load(&[("SOUK_CORS__ORIGINS", "https://app.example.com,http://localhost:3000")]).unwrap();
        assert!(matches!(config.cors.origins, CorsOrigins::List(list) if list.len() == 2));
        let error =
            load(&[("SOUK_CORS__ORIGINS", "https://app.example.com,https://app.example.com/page")]).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("`https://app.example.com/page` is not an origin"), "{error}");
        assert!(error.contains("cors.origins"), "{error}");
    }

    #[test]
    fn a_file_wins_over_the_defaults_and_a_variable_over_the_file() {
        let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
        std::fs::write(file.path(), "[engine]\nthreads = 5\nmax_sequences = 7\n").unwrap();
        let variables = [("SOUK_ENGINE__THREADS".to_owned(), "6".to_owned())];
        let config = Config::load(Some(file.path()), variables.into_iter()).unwrap();
        assert_eq!((config.engine.threads, config.engine.max_sequences), (6, 7));
    }

    #[test]
    fn any_bytes_of_a_settings_file_are_read_or_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.toml");
        souk_testkit::fuzz("settings", |bytes| {
            std::fs::write(&path, bytes).unwrap();
            match Config::read(PAGE, Some(&path), HashMap::new()) {
                Ok(_) => "valid".to_owned(),
                Err(error) => format!("{error:#}").replace(path.to_str().unwrap(), "").chars().skip(68).collect(),
            }
        });
    }
}
