//! How the registries are reached by services that run apart from them.

use std::path::Path;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use souk_gateway::GatewayLimits;
use souk_registries::{KeySource, Settings};
use souk_registry::ApiKey;

use crate::config::NodeSettings;

/// What a section of the settings says of registries.
struct Section<'a> {
    name: &'static str,
    addresses: &'a [String],
    root_cert: &'a Path,
    client_cert: &'a Path,
    key: &'a SecretString,
    key_file: &'a Path,
    /// How such a key is made.
    makes_key: &'static str,
    stale: Duration,
}

/// As a gateway reaches them.
///
/// # Errors
/// If none is named, or no key.
pub(super) fn of_gateway(settings: &GatewayLimits) -> anyhow::Result<Settings> {
    read(&Section {
        name: "gateway",
        addresses: &settings.registries,
        root_cert: &settings.registries_root_cert,
        client_cert: &settings.registries_client_cert,
        key: &settings.registry_key,
        key_file: &settings.registry_key_file,
        makes_key: "souk services create NAME",
        stale: settings.rights_stale,
    })
}

/// As a node reaches them.
///
/// # Errors
/// If none is named, or no key.
pub(super) fn of_node(settings: &NodeSettings) -> anyhow::Result<Settings> {
    read(&Section {
        name: "node",
        addresses: &settings.registries,
        root_cert: &settings.registries_root_cert,
        client_cert: &settings.registries_client_cert,
        key: &settings.registry_key,
        key_file: &settings.registry_key_file,
        makes_key: "souk services create NAME --kind node",
        // It asks for no rights.
        stale: Duration::ZERO,
    })
}

fn read(section: &Section<'_>) -> anyhow::Result<Settings> {
    let Section { name, addresses, root_cert, client_cert, key, key_file, makes_key, stale } = *section;
    anyhow::ensure!(
        !addresses.is_empty(),
        "{name}.registries must list at least one registry, as http://10.0.0.5:8081; given none"
    );
    let has_file = !key_file.as_os_str().is_empty();
    anyhow::ensure!(
        has_file || !key.expose_secret().is_empty(),
        "{name}.registry_key or {name}.registry_key_file must be set; `{makes_key}` makes such a key"
    );
    Ok(Settings {
        section: name,
        addresses: addresses.to_vec(),
        root_cert: (!root_cert.as_os_str().is_empty()).then(|| root_cert.to_owned()),
        client_cert: (!client_cert.as_os_str().is_empty()).then(|| client_cert.to_owned()),
        key: if has_file { KeySource::File(key_file.to_owned()) } else { KeySource::Text(key.clone()) },
        stale,
        id_of_key: |presented| ApiKey::parse(presented).ok().map(|key| key.id()),
    })
}
