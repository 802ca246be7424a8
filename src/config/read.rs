//! Reading settings: which source wins, which texts are lists, and which are never taken for numbers.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use anyhow::Context as _;
use serde::de::DeserializeOwned;

/// Variables of secrets.
const SECRETS: [&str; 12] = [
    "SOUK_REDIS__URL",
    "SOUK_REDIS__PASSWORD",
    "SOUK_REDIS__SENTINEL_PASSWORD",
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

/// Keys of lists, whose variables have their values with commas between.
const LISTS: [&str; 9] = [
    "adapters.pinned",
    "cors.origins",
    "gateway.registries",
    "gateway.base_files",
    "node.registries",
    "redis.addresses",
    "registry.base_files",
    "server.trusted_proxies",
    "registry.webhooks.allowed_networks",
];

/// Settings that were read, and the keys that a file or a variable gave, as `section.key`.
pub(super) struct Read<T> {
    pub(super) settings: T,
    pub(super) given: BTreeSet<String>,
}

/// The variables among those of the environment that are settings. Only names with a section are: `SOUK_API_KEY` and `SOUK_URL`
/// belong to the commands.
pub(super) fn variables(environment: impl Iterator<Item = (String, String)>) -> HashMap<String, String> {
    environment.filter(|(name, _)| name.starts_with("SOUK_") && name.contains("__")).collect()
}

/// Reads `page`, then `file` if there is one, then `variables`; what comes later wins.
///
/// # Errors
/// If the file cannot be read, a key is unknown or missing, or a value has the wrong type.
pub(super) fn read<T: DeserializeOwned>(
    page: &str,
    file: Option<&Path>,
    variables: HashMap<String, String>,
) -> anyhow::Result<Read<T>> {
    let page = config::File::from_str(page, config::FileFormat::Toml);
    let mut builder = config::Config::builder().add_source(page);
    let mut given: BTreeSet<String> = variables.keys().filter_map(|name| key_of_variable(name)).collect();
    if let Some(path) = file {
        let file = config::File::from(path).format(config::FileFormat::Toml);
        given.extend(keys_of_file(&file));
        builder = builder.add_source(file);
    }
    // Secrets are texts whatever they look like: the password 007 is no number.
    let is_secret = |(name, _): &(String, String)| SECRETS.contains(&name.as_str()) || is_of_provider(name);
    let (secrets, others): (HashMap<_, _>, HashMap<_, _>) = variables.into_iter().partition(is_secret);
    let of = |variables| {
        config::Environment::with_prefix("SOUK").prefix_separator("_").separator("__").source(Some(variables))
    };
    let others = of(others).try_parsing(true).list_separator(",");
    let others = LISTS.iter().fold(others, |others, key| others.with_list_parse_key(key));
    let settings = builder.add_source(others).add_source(of(secrets)).build();
    let settings = settings.and_then(config::Config::try_deserialize);
    let settings = settings.context("the settings are not valid; config/default.toml lists every key")?;
    Ok(Read { settings, given })
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
