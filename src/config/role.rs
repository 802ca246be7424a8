//! What a process runs, and which settings that reads.

/// What a process runs, which says which settings it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// `souk serve`.
    All,
    /// `souk registry`.
    Registry,
    /// `souk gateway` with a node inside.
    Gateway,
    /// `souk gateway` whose nodes are apart.
    GatewayApart,
    /// `souk node`.
    Node,
}

/// Sections of nodes and gateways.
const OF_GATEWAYS_AND_NODES: [&str; 11] =
    ["model", "memory", "engine", "adapters", "constraints", "queue", "gateway", "node", "wire", "cors", "redis"];
/// Sections of registries, which neither gateways nor nodes read.
const OF_REGISTRIES: [&str; 4] = ["registry", "limits", "sign_in", "objects"];
/// Keys of gateways that have their registries elsewhere.
const OF_GATEWAYS_WITHOUT_REGISTRY: [&str; 5] = [
    "gateway.registries",
    "gateway.registries_root_cert",
    "gateway.registries_client_cert",
    "gateway.registry_key",
    "gateway.registry_key_file",
];
/// Keys of gateways whose nodes are apart.
const OF_GATEWAYS_WITHOUT_NODE: [&str; 3] = ["gateway.nodes", "gateway.base_files", "gateway.advertise"];

impl Role {
    /// All of them.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 5] = [Self::All, Self::Registry, Self::Gateway, Self::GatewayApart, Self::Node];

    pub(crate) const fn command(self) -> &'static str {
        match self {
            Self::All => "souk serve",
            Self::Registry => "souk registry",
            Self::Gateway => "souk gateway",
            Self::GatewayApart => "souk gateway with nodes apart",
            Self::Node => "souk node",
        }
    }

    /// Whether this role reads a key of the page.
    pub(crate) fn uses(self, key: &str) -> bool {
        let section = key.split('.').next().unwrap_or_default();
        let is_of_registries = OF_REGISTRIES.contains(&section);
        match self {
            Self::All => {
                !OF_GATEWAYS_WITHOUT_REGISTRY.contains(&key)
                    && !OF_GATEWAYS_WITHOUT_NODE.contains(&key)
                    && !matches!(section, "node" | "wire")
                    && key != "registry.base_files"
            }
            Self::Registry => !OF_GATEWAYS_AND_NODES.contains(&section) && key != "data.cache_dir",
            Self::Gateway => {
                let of_others = ["gateway.base_files", "gateway.advertise"];
                !is_of_registries && !of_others.contains(&key) && !matches!(section, "node" | "wire")
            }
            Self::GatewayApart => {
                let is_of_nodes = matches!(section, "node" | "model" | "memory" | "engine") || key == "data.cache_dir";
                let is_of_adapters = section == "adapters" && key != "adapters.pinned";
                !is_of_registries && !is_of_nodes && !is_of_adapters
            }
            Self::Node => {
                let is_of_gateways = matches!(section, "gateway" | "cors" | "hooks") || key == "adapters.pinned";
                !is_of_registries && !is_of_gateways
            }
        }
    }
}
