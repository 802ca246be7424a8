//! What an operator can set of hooks: the section `[registry.hooks]`.

use std::collections::BTreeSet;

use serde::Deserialize;
use souk_protocol::settings::Checks;

/// What hooks of tenants are bounded by. The defaults are in the page of all settings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookBounds {
    /// Whether the operator's tenant is given the hooks that the program brings, once.
    pub install: bool,
    /// Most hooks of one tenant.
    pub max_per_tenant: usize,
    /// Most versions of one hook.
    pub max_versions_per_hook: usize,
    /// Most targets of one tenant with a pipeline.
    pub max_pipelines_per_tenant: usize,
    /// Lines and failures that are kept of each hook.
    pub lines_kept: u64,
    /// Names of the tenants that may publish large components, such as those made of Python.
    pub large_for: BTreeSet<String>,
}

impl HookBounds {
    /// Says which of them cannot be used.
    pub(crate) fn check(&self, checks: &mut Checks) {
        checks.within("registry.hooks.max_per_tenant", self.max_per_tenant, 1..=1_000_000);
        checks.within("registry.hooks.max_versions_per_hook", self.max_versions_per_hook, 1..=10_000);
        checks.within("registry.hooks.max_pipelines_per_tenant", self.max_pipelines_per_tenant, 1..=1_000_000);
        checks.within("registry.hooks.lines_kept", self.lines_kept, 1..=100_000);
    }
}
