//! Opaque identifiers. Each prints as `<prefix>_<32 hex digits>` and sorts by the time it was made (UUID v7).

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Digest;

macro_rules! opaque_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        ///
        /// A clone is the same text: ids go along with every job, event and row.
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// A new id, unlike any other.
            #[must_use]
            #[expect(clippy::new_without_default, reason = "an id that appears by default is a mistake")]
            pub fn new() -> Self {
                Self(format!(concat!($prefix, "_{}"), Uuid::now_v7().simple()).into())
            }

            /// An id that was stored or sent before. Ids are opaque, so any text is one; an unknown id finds nothing.
            #[must_use]
            pub fn from_stored(text: impl AsRef<str>) -> Self {
                Self(text.as_ref().into())
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

opaque_id!(
    /// Who pays and who owns: the unit of isolation, fairness and quotas.
    TenantId, "ten"
);
opaque_id!(
    /// A human being, who may be a member of several tenants.
    PersonId, "per"
);
opaque_id!(
    /// Some members and keys of a tenant, with limits of their own.
    TeamId, "team"
);
opaque_id!(
    /// The public half of an API key, or the id of a session.
    KeyId, "key"
);
opaque_id!(
    /// A version of a hook.
    HookVersionId, "hkv"
);
opaque_id!(
    /// One HTTP request; also what `x-request-id` carries and what usage is booked under.
    RequestId, "req"
);
opaque_id!(
    /// One process that runs a base model. A node owns the lane of the same name.
    NodeId, "node"
);
opaque_id!(
    /// One process that takes requests. Events and outcomes of a job go back to the gateway that submitted it.
    GatewayId, "gw"
);

/// A pool is all nodes that serve one base model; its id is the base model's digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PoolId(pub Digest);

/// One generation on the queue: a request has one job per choice (`n`) and prompt.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JobId {
    /// The request that this job answers.
    pub request: RequestId,
    /// Which of the request's choices, from 0.
    pub index: u32,
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.request, self.index)
    }
}
