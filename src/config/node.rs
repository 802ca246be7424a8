//! A node that runs apart: the section `[node]` of the settings.

use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};
use souk_protocol::NodeId;
use souk_protocol::reference::check_name_part;
use souk_protocol::settings::Checks;

/// What a node that runs apart is called, and where it has files from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeSettings {
    /// Its name; empty: another at each start.
    pub(crate) id: String,
    /// Addresses of registries.
    pub(crate) registries: Vec<String>,
    /// A file of certificates (PEM) of authorities that are trusted for them beside the system's; empty: none.
    pub(crate) registries_root_cert: PathBuf,
    /// A file with the certificates and the key (PEM) that it shows to registries; empty: none.
    pub(crate) registries_client_cert: PathBuf,
    /// The key that it exchanges for tokens; empty: it is in a file.
    #[serde(deserialize_with = "secret")]
    pub(crate) registry_key: SecretString,
    /// The file of that key.
    pub(crate) registry_key_file: PathBuf,
    /// Whether files may be read where registries keep them.
    pub(crate) direct_files: bool,
}

impl NodeSettings {
    pub(super) fn check(&self, checks: &mut Checks) {
        let id = &self.id;
        if !id.is_empty()
            && let Err(error) = check_name_part("node.id", id)
        {
            checks.rule(false, || error.to_string());
        }
        let (key, file) = (self.registry_key.expose_secret(), &self.registry_key_file);
        checks.rule(key.is_empty() || file.as_os_str().is_empty(), || {
            let file = file.display();
            format!("node.registry_key and node.registry_key_file are both set, the latter to {file}; set one of them")
        });
    }

    /// Who the node is: whom the settings name, or somebody new.
    pub(crate) fn node_id(&self) -> NodeId {
        if self.id.is_empty() { NodeId::new() } else { NodeId::from_stored(self.id.as_str()) }
    }
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}
