//! Hooks: tenants' own code before and after the model, and where it is attached.
//!
//! A hook is published as adapters are: `owner/name`, immutable versions, each with the digest of its bytes. It acts where a
//! pipeline names it ([`PipelineTarget`]): at a tenant, one of its keys, one of its adapters' versions or a route. A pipeline is
//! a list of [`Step`]s, each pinned to a version; the registry resolves it for a gateway, which gets
//!
//! - the steps of who calls with [`LimitTree::hooks`](crate::LimitTree::hooks) ([`CallerHooks`]), and
//! - the steps of an adapter's publisher with [`ResolvedAdapter::hooks`](crate::ResolvedAdapter::hooks) ([`Attached`]),
//!
//! both no older than whatever else is known of rights. `None` means that there are no steps, which is nothing to look at.
//! [`ResolvedHooks`] is both for one call, in the order in which they act.
//!
//! What gateways say of hooks: counts go with the rows of usage ([`HookUse`]), lines and failures apart ([`HookLine`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::ids::HookVersionId;
use crate::{AdapterName, Digest, KeyId, TenantId};

mod limits;
mod reference;
mod told;

pub use limits::{HookLimit, HookLimits};
pub use reference::{HookRef, HookRefError, HookSelector};
pub use told::{HookLine, HookTold, HookUse};

/// `owner/name` of a hook: the grammar is that of adapters' names, the names are others.
pub type HookName = AdapterName;

/// Most steps of one pipeline.
pub const MAX_STEPS: usize = 8;
/// Largest configuration of a step, in bytes of JSON.
pub const MAX_CONFIG_BYTES: usize = 16 * 1024;
/// Most variables of a tenant.
pub const MAX_VARIABLES: usize = 64;
/// Largest value of a variable, in bytes.
pub const MAX_VARIABLE_BYTES: usize = 4 * 1024;
/// Longest line that is kept of what a hook says, in bytes.
pub const MAX_LINE_BYTES: usize = 2 * 1024;

/// What of a request's road a hook acts on: what its component exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The request, before the model.
    Prompt,
    /// An answer that is sent whole.
    Answer,
    /// An answer that is sent piece by piece.
    Stream,
}

/// What becomes of a request whose hook fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// It fails, too.
    #[default]
    FailClosed,
    /// It goes on as if the hook were not there.
    Skip,
}

/// The share of requests that a step acts on, in hundredths: those whose lot is at least `from` and less than `below`.
///
/// A lot is drawn by a stable hash of the hook's name and of what a request is known by, so that the same callers stay in a
/// share that grows; and the same for all versions of a hook, so that 0 to 10 of one and 10 to 100 of another part them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// The least lot.
    #[serde(default)]
    pub from: u8,
    /// The least lot that is not in it any more; at most 100.
    pub below: u8,
}

/// Whether a step's hook may run now. What is not known may not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It may.
    #[default]
    Callable,
    /// Its owner lets the tenant that attached it use it no more, or deleted it.
    NotGranted,
    /// It was taken down.
    #[serde(other)]
    TakenDown,
}

/// One hook at one place of a pipeline, resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The hook, as errors, figures and logs name it.
    pub hook: HookName,
    /// The version that the pipeline is pinned to.
    pub version: semver::Version,
    /// That version's id: what counts of it are kept under.
    pub id: HookVersionId,
    /// SHA-256 of its component.
    pub digest: Digest,
    /// Whose hook it is: who may read what it says of requests of that tenant.
    pub owner: TenantId,
    /// What it exports. A part that is not here is passed by.
    pub parts: BTreeSet<Part>,
    /// Its configuration here, as JSON text.
    pub config: Arc<str>,
    /// What becomes of a request if it fails.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Which requests it acts on.
    #[serde(default)]
    pub share: Share,
    /// Whether it may run. One that may not fails, as `on_failure` has it.
    #[serde(default)]
    pub standing: Standing,
}

/// What a tenant attached at one of its adapter's versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Who attached it: the adapter's publisher, whose variables they are.
    pub tenant: TenantId,
    /// What hooks read with `variables`.
    #[serde(default)]
    pub variables: Arc<BTreeMap<String, String>>,
    /// What they may take, as the operator said it for the publisher. How many run at once goes by who calls.
    #[serde(default, skip_serializing_if = "HookLimits::is_empty")]
    pub limits: HookLimits,
    /// In the order in which they act on a prompt.
    pub steps: Vec<Step>,
}

/// What acts on the requests of one caller, whatever they ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallerHooks {
    /// What hooks read with `variables`: the tenant's.
    #[serde(default)]
    pub variables: Arc<BTreeMap<String, String>>,
    /// Steps of the tenant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub of_tenant: Vec<Step>,
    /// Steps of the key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub of_key: Vec<Step>,
    /// Steps of the tenant's at single routes. Routes that a gateway does not know are passed over.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub of_routes: BTreeMap<String, Vec<Step>>,
    /// What they may take, as the operator said it for the tenant, and how many run at once in its requests, whoever's they are.
    #[serde(default, skip_serializing_if = "HookLimits::is_empty")]
    pub limits: HookLimits,
    /// Tenants that may read what their hooks say in this tenant's requests. Nobody else may but this tenant of its own hooks.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub log_readers: BTreeSet<TenantId>,
}

/// A route that a pipeline may hang on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HookRoute {
    /// Chat.
    #[serde(rename = "/v1/chat/completions")]
    Chat,
    /// Text.
    #[serde(rename = "/v1/completions")]
    Completions,
}

/// Where a pipeline hangs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PipelineTarget {
    /// All requests of a tenant.
    Tenant,
    /// Those of one of its keys.
    Key(KeyId),
    /// Those of whoever calls this version of one of its adapters.
    Version(AdapterName, semver::Version),
    /// Those that come by a route.
    Route(HookRoute),
}

/// All that acts on one call, for the road of a call.
#[derive(Clone, Debug, Default)]
pub struct ResolvedHooks {
    /// Of who calls.
    pub caller: Option<Arc<CallerHooks>>,
    /// Of the publisher of what is called.
    pub adapter: Option<Arc<Attached>>,
}

impl Share {
    /// All requests.
    pub const ALL: Self = Self { from: 0, below: 100 };

    /// Whether it is a share at all.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.from < self.below && self.below <= 100
    }

    /// Whether a request that is known by `subject` is in it, for a hook of this name.
    #[must_use]
    pub fn has(self, hook: &HookName, subject: &str) -> bool {
        if self == Self::ALL {
            return true;
        }
        (self.from..self.below).contains(&lot(hook, subject))
    }
}

impl Default for Share {
    fn default() -> Self {
        Self::ALL
    }
}

/// From 0 to 99.
fn lot(hook: &HookName, subject: &str) -> u8 {
    let hash = Sha256::new()
        .chain_update(hook.owner().as_bytes())
        .chain_update(b"/")
        .chain_update(hook.name().as_bytes())
        .chain_update([0])
        .chain_update(subject.as_bytes())
        .finalize();
    let (first, _) = hash.split_first_chunk::<8>().expect("a hash has 32 bytes");
    u8::try_from(u64::from_be_bytes(*first) % 100).expect("it is less than 100")
}

impl CallerHooks {
    /// The steps for a request by this route, in the order in which they act on its prompt: the tenant's, the key's, the
    /// route's.
    pub fn steps(&self, route: HookRoute) -> impl Iterator<Item = &Step> {
        let of_route = self.of_routes.get(route.as_str()).into_iter().flatten();
        self.of_tenant.iter().chain(&self.of_key).chain(of_route)
    }

    /// Whether no request has a step.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.of_tenant.is_empty() && self.of_key.is_empty() && self.of_routes.values().all(Vec::is_empty)
    }
}

impl ResolvedHooks {
    /// Whether nothing acts on a request by this route.
    #[must_use]
    pub fn is_empty(&self, route: HookRoute) -> bool {
        self.caller.as_ref().is_none_or(|caller| caller.steps(route).next().is_none())
            && self.adapter.as_ref().is_none_or(|adapter| adapter.steps.is_empty())
    }
}

impl Step {
    /// Whether what it says in a request of `caller`'s may be kept for its owner, and not only counted.
    #[must_use]
    pub fn may_say(&self, caller: &TenantId, hooks: Option<&CallerHooks>) -> bool {
        self.owner == *caller || hooks.is_some_and(|hooks| hooks.log_readers.contains(&self.owner))
    }
}

impl Part {
    /// All of them, in the order in which they act.
    pub const ALL: [Self; 3] = [Self::Prompt, Self::Answer, Self::Stream];

    /// The name of the interface.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Answer => "answer",
            Self::Stream => "stream",
        }
    }
}

impl OnFailure {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FailClosed => "fail_closed",
            Self::Skip => "skip",
        }
    }
}

impl HookRoute {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Chat, Self::Completions];

    /// Its path.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
        }
    }

    /// The route with this path.
    #[must_use]
    pub fn from_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|route| route.as_str() == path)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn step(hook: &str) -> Step {
        Step {
            hook: hook.parse().unwrap(),
            version: semver::Version::new(1, 2, 0),
            id: HookVersionId::from_stored("hkv_1"),
            digest: Digest::of(hook.as_bytes()),
            owner: TenantId::from_stored("ten_1"),
            parts: BTreeSet::from([Part::Prompt]),
            config: "{}".into(),
            on_failure: OnFailure::Skip,
            share: Share::ALL,
            standing: Standing::Callable,
        }
    }

    #[test]
    fn a_callers_steps_are_the_tenants_then_the_keys_then_the_routes() {
        let hooks = CallerHooks {
            of_tenant: vec![step("a/tenant")],
            of_key: vec![step("a/key")],
            of_routes: BTreeMap::from([
                (HookRoute::Chat.as_str().to_owned(), vec![step("a/chat")]),
                ("/v1/later".to_owned(), vec![step("a/later")]),
            ]),
            ..CallerHooks::default()
        };
        let names = |route| hooks.steps(route).map(|step| step.hook.name().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(HookRoute::Chat), ["tenant", "key", "chat"]);
        assert_eq!(names(HookRoute::Completions), ["tenant", "key"]);
    }

    #[test]
    fn what_is_not_known_of_a_step_lets_it_not_run() {
        let mut written = serde_json::to_value(step("a/b")).unwrap();
        assert_eq!(serde_json::from_value::<Step>(written.clone()).unwrap(), step("a/b"));
        written["standing"] = json!("a word of later");
        assert_eq!(serde_json::from_value::<Step>(written).unwrap().standing, Standing::TakenDown);
    }

    #[test]
    fn a_hook_says_something_to_its_owner_in_its_owners_requests_or_where_that_was_granted() {
        let (owner, other) = (TenantId::from_stored("ten_1"), TenantId::from_stored("ten_2"));
        let granting = CallerHooks { log_readers: BTreeSet::from([owner.clone()]), ..CallerHooks::default() };
        let step = step("a/b");
        assert!(step.may_say(&owner, None));
        assert!(!step.may_say(&other, Some(&CallerHooks::default())));
        assert!(step.may_say(&other, Some(&granting)));
    }

    proptest! {
        #[test]
        fn two_shares_of_a_hook_part_its_callers_and_one_that_grows_keeps_those_it_has(
            subject in "\\PC{0,40}", at in 1..100_u8, more in 0..100_u8,
        ) {
            let hook: HookName = "acme/mask".parse().unwrap();
            let has = |from, below| Share { from, below }.has(&hook, &subject);
            prop_assert_ne!(has(0, at), has(at, 100));
            prop_assert!(!has(0, at) || has(0, at.max(more)));
        }
    }

    #[test]
    fn a_share_has_about_as_many_as_it_says() {
        let hook: HookName = "acme/mask".parse().unwrap();
        let in_it = (0..10_000).filter(|id| Share { from: 0, below: 25 }.has(&hook, &format!("key_{id}"))).count();
        assert!((2300..2700).contains(&in_it), "{in_it}");
    }
}
