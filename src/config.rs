//! Settings: `config/default.toml`, then a file, then `SOUK_SECTION__KEY` variables, then flags.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;
use souk_http::cors::CorsConfig;
use souk_protocol::AdapterRef;

/// Every setting with its default; compiled in, and the reference page.
const DEFAULTS: &str = include_str!("../config/default.toml");

/// All settings, one field per section of `config/default.toml`, which says what each one bounds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) server: ServerConfig,
    pub(crate) data: DataConfig,
    pub(crate) model: ModelConfig,
    pub(crate) memory: MemoryConfig,
    pub(crate) engine: EngineConfig,
    pub(crate) adapters: AdaptersConfig,
    pub(crate) constraints: ConstraintsConfig,
    pub(crate) queue: QueueConfig,
    pub(crate) gateway: GatewayConfig,
    pub(crate) cors: CorsConfig,
    pub(crate) registry: RegistryConfig,
    pub(crate) log: LogConfig,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServerConfig {
    pub(crate) listen: String,
    pub(crate) drain_timeout_s: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DataConfig {
    pub(crate) dir: String,
    pub(crate) cache_dir: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelConfig {
    pub(crate) source: String,
    pub(crate) id: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemoryConfig {
    pub(crate) device_mb: usize,
    pub(crate) kv_floor_mb: usize,
    pub(crate) adapters_floor_mb: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EngineConfig {
    pub(crate) threads: usize,
    pub(crate) max_batch_tokens: usize,
    pub(crate) max_prefill_tokens_beside_decode: usize,
    pub(crate) max_sequences: usize,
    pub(crate) max_requests: usize,
    pub(crate) max_logit_rows: usize,
    pub(crate) speculation: bool,
    pub(crate) max_speculative_tokens: usize,
    pub(crate) kv_cache_mb: usize,
    pub(crate) prefix_cache: bool,
    pub(crate) max_adapter_mb_per_step: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdaptersConfig {
    pub(crate) device_mb: usize,
    pub(crate) host_mb: usize,
    pub(crate) max_concurrent_loads: usize,
    pub(crate) max_wait_ms: u64,
    pub(crate) max_prefetches: usize,
    pub(crate) disk_mb: u64,
    pub(crate) pinned: Vec<AdapterRef>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConstraintsConfig {
    pub(crate) max_source_bytes: usize,
    pub(crate) max_choices: usize,
    pub(crate) compile_timeout_ms: u64,
    pub(crate) max_concurrent_compiles: usize,
    pub(crate) max_compile_work: u64,
    pub(crate) max_mask_work: u64,
    pub(crate) max_compiled_mb: usize,
    pub(crate) max_cached: usize,
    pub(crate) max_cached_mb: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueConfig {
    pub(crate) max_queued_per_tenant: usize,
    pub(crate) max_queued: usize,
    pub(crate) lease_s: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GatewayConfig {
    pub(crate) max_body_bytes: usize,
    pub(crate) request_timeout_s: u64,
    pub(crate) max_in_flight: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RegistryConfig {
    pub(crate) max_adapter_bytes: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogConfig {
    pub(crate) filter: String,
    pub(crate) format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    Json,
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
        let mut builder =
            config::Config::builder().add_source(config::File::from_str(DEFAULTS, config::FileFormat::Toml));
        if let Some(path) = file {
            builder = builder.add_source(config::File::from(path).format(config::FileFormat::Toml));
        }
        // Only names with a section are settings: SOUK_API_KEY and SOUK_URL belong to the commands.
        let settings: HashMap<String, String> =
            environment.filter(|(name, _)| name.starts_with("SOUK_") && name.contains("__")).collect();
        let environment = config::Environment::with_prefix("SOUK")
            .prefix_separator("_")
            .separator("__")
            .try_parsing(true)
            .list_separator(",")
            .with_list_parse_key("adapters.pinned")
            .with_list_parse_key("cors.origins")
            .source(Some(settings));
        let loaded: Self = builder
            .add_source(environment)
            .build()
            .and_then(config::Config::try_deserialize)
            .context("the settings are not valid; config/default.toml lists every key")?;
        loaded.check()?;
        Ok(loaded)
    }

    fn check(&self) -> anyhow::Result<()> {
        at_least("engine.max_batch_tokens", self.engine.max_batch_tokens as u64, 1)?;
        at_least("engine.max_prefill_tokens_beside_decode", self.engine.max_prefill_tokens_beside_decode as u64, 1)?;
        at_least("engine.max_sequences", self.engine.max_sequences as u64, 1)?;
        at_least("engine.max_requests", self.engine.max_requests as u64, 1)?;
        at_least("engine.max_logit_rows", self.engine.max_logit_rows as u64, 1)?;
        at_least("engine.max_speculative_tokens", self.engine.max_speculative_tokens as u64, 1)?;
        at_least("memory.device_mb", self.memory.device_mb as u64, 2)?;
        at_least("memory.kv_floor_mb", self.memory.kv_floor_mb as u64, 1)?;
        at_least("memory.adapters_floor_mb", self.memory.adapters_floor_mb as u64, 1)?;
        at_least("adapters.host_mb", self.adapters.host_mb as u64, 1)?;
        at_least("adapters.max_concurrent_loads", self.adapters.max_concurrent_loads as u64, 1)?;
        self.constraints.check()?;
        at_least("queue.max_queued", self.queue.max_queued as u64, 1)?;
        at_least("queue.max_queued_per_tenant", self.queue.max_queued_per_tenant as u64, 1)?;
        at_least("queue.lease_s", self.queue.lease_s, 1)?;
        at_least("gateway.max_in_flight", self.gateway.max_in_flight as u64, 1)?;
        at_least("gateway.request_timeout_s", self.gateway.request_timeout_s, 1)?;
        Ok(())
    }

    /// Compute threads after resolving 0.
    pub(crate) fn num_threads(&self) -> usize {
        match self.engine.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }

    /// The data folder after resolving the default.
    ///
    /// # Errors
    /// If none is set and there is no home folder.
    pub(crate) fn data_dir(&self) -> anyhow::Result<PathBuf> {
        folder(&self.data.dir, "XDG_DATA_HOME", ".local/share", "data.dir")
    }

    /// Where packed adapters are kept between runs: below the data folder, which one process has for itself.
    ///
    /// # Errors
    /// If there is no data folder.
    pub(crate) fn packed_adapters_dir(&self) -> anyhow::Result<PathBuf> {
        Ok(self.data_dir()?.join("packed"))
    }

    /// The cache folder after resolving the default.
    ///
    /// # Errors
    /// If none is set and there is no home folder.
    pub(crate) fn cache_dir(&self) -> anyhow::Result<PathBuf> {
        folder(&self.data.cache_dir, "XDG_CACHE_HOME", ".cache", "data.cache_dir")
    }
}

impl ConstraintsConfig {
    fn check(&self) -> anyhow::Result<()> {
        let within = |name: &str, value: u64, most: u64| {
            let name = format!("constraints.{name}");
            at_least(&name, value, 1)?;
            anyhow::ensure!(value <= most, "{name} must be at most {most}; given {value}");
            Ok(())
        };
        // Sources of this length take half of the stack that compiling has.
        within("max_source_bytes", self.max_source_bytes as u64, 128 << 10)?;
        within("max_choices", self.max_choices as u64, 1 << 20)?;
        within("compile_timeout_ms", self.compile_timeout_ms, 600_000)?;
        // Each has 128 MiB of address space.
        within("max_concurrent_compiles", self.max_concurrent_compiles as u64, 64)?;
        within("max_compile_work", self.max_compile_work, 1 << 40)?;
        within("max_mask_work", self.max_mask_work, 1 << 40)?;
        within("max_compiled_mb", self.max_compiled_mb as u64, 1 << 20)?;
        within("max_cached", self.max_cached as u64, 1 << 20)?;
        within("max_cached_mb", self.max_cached_mb as u64, 1 << 20)
    }
}

fn at_least(name: &str, value: u64, least: u64) -> anyhow::Result<()> {
    anyhow::ensure!(value >= least, "{name} must be at least {least}; given {value}");
    Ok(())
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

    #[test]
    fn the_defaults_of_constraints_are_those_of_the_crates_that_use_them() {
        let config = load(&[]).unwrap();
        assert_eq!(
            crate::roles::node::constraint_limits(&config),
            souk_engine::constraint::ConstraintLimits::default()
        );
        let gateway = souk_gateway::GatewayLimits::default();
        assert_eq!(config.constraints.max_source_bytes, gateway.constraint_bytes);
        assert_eq!(config.constraints.max_choices, gateway.constraint_choices);
    }

    #[test]
    fn a_variable_wins_over_the_defaults_and_command_variables_are_left_alone() {
        let variables = [("SOUK_ENGINE__THREADS", "3"), ("SOUK_API_KEY", "secret"), ("SOUK_LOG__FORMAT", "json")];
        let config = load(&variables).unwrap();
        assert_eq!(config.engine.threads, 3);
        assert_eq!(config.log.format, LogFormat::Json);
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
}
