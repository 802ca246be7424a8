//! What a call of a hook has around it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use souk_protocol::TenantId;
use souk_protocol::gate::Weight;

use crate::limits::Limits;

/// Counts the base model's tokens.
pub trait CountTokens: Send + Sync {
    /// How many tokens a text is, without those that a chat template adds. It is called on a hook's thread, with as much text as
    /// [`Limits::max_counted_bytes`] lets through.
    fn count(&self, text: &str) -> u32;
}

/// What a hook may see, and for whom it runs.
#[derive(Clone)]
pub struct CallContext {
    /// Whose call it is: who has a share of what there is to run hooks.
    pub tenant: TenantId,
    /// How large that share is beside others'.
    pub weight: Weight,
    /// What it may take.
    pub limits: Limits,
    /// Whether lines and details are kept, for the hook's owner: in the owner's own calls, and in those of tenants that granted it.
    pub may_log: bool,
    /// Its configuration as JSON, where it was attached; `{}` if there is none.
    pub config: Arc<str>,
    /// The variables of the tenant that attached it.
    pub variables: Arc<BTreeMap<String, String>>,
    /// Seconds since 1970 at which its clock stands.
    pub clock_s: u64,
    /// What its randomness is drawn from.
    pub seed: u64,
    /// Counts tokens.
    pub tokens: Arc<dyn CountTokens>,
}

impl fmt::Debug for CallContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Configuration and variables are a tenant's own, and may be secrets.
        f.debug_struct("CallContext")
            .field("tenant", &self.tenant)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
