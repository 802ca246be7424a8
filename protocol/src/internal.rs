//! What a gateway asks a registry over HTTP, and what it is told: the bodies of the routes below [`PREFIX`], and the lines of
//! the stream of withdrawals. Services of two versions speak to each other while a fleet is upgraded, so fields that are
//! not known are passed over, and words that are not known grant nothing.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::hooks::{Attached, HookLine};
use crate::{
    AdapterName, AdapterRef, AllowedModels, Deprived, Digest, FileGrant, KeyId, PersonId, Principal, RequestRecord,
    ResolveError, ResolvedAdapter, Scope, TenantId, Total, TotalKey,
};

/// Where all of these routes are.
pub const PREFIX: &str = "/registry/v1/internal";

/// The header of a request for a file that has the [`FileGrant`] for its version.
pub const GRANT_HEADER: &str = "x-souk-file-grant";

/// How often the stream of withdrawals says that it is there, and up to which number it has told everything.
pub const HEARTBEAT: Duration = Duration::from_millis(200);

/// A service's key, in exchange for a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewToken {
    /// To be sent as `Authorization: Bearer …`.
    pub access_token: String,
    /// Seconds that it lives.
    pub expires_in: u64,
    /// Who issues tokens, tenants' ones too, as they say it.
    pub issuer: String,
}

/// A [`Principal`] on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// Their tenant's id.
    pub tenant: TenantId,
    /// Their tenant's name.
    pub tenant_name: String,
    /// The key or session that was presented, or that the token was made with.
    pub key: KeyId,
    /// Whose that is; absent for a service's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<PersonId>,
    /// By name.
    pub scopes: Vec<String>,
    /// Patterns of the models that may be called; absent: all that the tenant may call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
}

/// `POST …/authenticate`: who presents this?
#[derive(Clone, Serialize, Deserialize)]
pub struct Authenticate {
    /// A key or a token.
    pub presented: String,
}

/// Who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Authenticated {
    /// They are known.
    Known(Caller),
    /// What was presented opens nothing.
    Refused,
}

/// `POST …/resolve`: what does this mean for that caller now?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolve {
    /// Who asks; absent for what an operator's settings name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<Caller>,
    /// What they wrote.
    pub reference: AdapterRef,
}

/// What it means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolved {
    /// This version.
    Found {
        /// The adapter.
        name: AdapterName,
        /// The version.
        version: semver::Version,
        /// The version's digest.
        digest: Digest,
        /// The base model's digest.
        base: Digest,
        /// Its largest rank.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rank: Option<u32>,
        /// What its publisher attached to it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hooks: Option<Arc<Attached>>,
        /// What a node fetches its files with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        grant: Option<FileGrant>,
    },
    /// Nothing that the caller may see.
    NotFound,
    /// It is there and cannot be served yet.
    NotReady {
        /// Its state.
        state: String,
    },
    /// It was taken down.
    TakenDown,
    /// It is gated, and the caller's tenant was not granted it.
    NotGranted,
}

/// `POST …/template`: which chat template did this version bring along?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// The version's digest.
    pub digest: Digest,
}

/// The template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateFound {
    /// The version has this one, or none.
    Found {
        /// Its source.
        source: Option<String>,
    },
    /// There is no such version.
    NotFound,
}

/// `POST …/models`: what may this caller name?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListModels {
    /// Who asks.
    pub caller: Caller,
    /// Most public adapters of others.
    pub most_public: usize,
}

/// A part of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Models {
    /// By name.
    pub models: Vec<Model>,
    /// Path of a page with further public ones.
    pub next: Option<String>,
}

/// An adapter in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// Its name.
    pub name: AdapterName,
    /// When it was made, in seconds since the Unix epoch.
    pub created_unix_s: u64,
}

/// `POST …/model`: the entry of one adapter; the answer is a [`Model`] or null.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetModel {
    /// Who asks.
    pub caller: Caller,
    /// Which.
    pub name: AdapterName,
}

/// `POST …/limits`: what binds this caller? The answer is a [`LimitTree`](crate::LimitTree), or null where it is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetLimits {
    /// Who asks.
    pub caller: Caller,
}

/// `POST …/usage`: rows to be written, each once however often it is sent. The answer are [`Totals`] of all that they moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteUsage {
    /// At most [`MAX_WRITTEN`].
    pub requests: Vec<RequestRecord>,
}

/// Most requests in one [`WriteUsage`].
pub const MAX_WRITTEN: usize = 500;

/// Most lines in one [`WriteHookLines`].
pub const MAX_HOOK_LINES: usize = 200;

/// Most bytes of one [`WriteUsage`]; a job has about 500.
pub const MAX_WRITTEN_BYTES: usize = 32 << 20;

/// Most sums in one [`GetTotals`]: their names fill less than a body may have.
pub const MAX_TOTALS: usize = 200;

/// `POST …/usage/totals`: what do the rows of these sum up to? The answer is [`Totals`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetTotals {
    /// Which sums, at most [`MAX_TOTALS`].
    pub keys: Vec<TotalKey>,
}

/// Sums of rows, as they are now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// One for each key.
    pub totals: Vec<Total>,
}

/// `POST …/usage/repeated`: which request had this `Idempotency-Key`? The answer is a [`RequestId`] or null.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetRepeated {
    /// Whose.
    pub tenant: TenantId,
    /// [`RequestRecord::repeat`].
    pub repeat: Digest,
}

/// A line of `GET …/withdrawals`, in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// What follows is all that counts now, and not what came after the number that was asked for: that is not known. What
    /// was known before of rights is to be forgotten.
    Anew,
    /// This key or session was revoked.
    Key(KeyId),
    /// The version with this digest was taken down.
    Version(Digest),
    /// Some tenants may call this adapter no more.
    Access {
        /// The adapter.
        adapter: AdapterName,
        /// Who may not.
        from: Deprived,
    },
    /// Rights or adapters may have changed: what is known of them is to be asked for again.
    Changed,
    /// All up to this number was told. Comes after what is told and every [`HEARTBEAT`].
    At {
        /// To be given as `after` when the stream breaks.
        number: i64,
        /// What the clock of the registry says, in milliseconds since the Unix epoch.
        now_ms: i64,
    },
}

impl From<&Principal> for Caller {
    fn from(principal: &Principal) -> Self {
        Self {
            tenant: principal.tenant.clone(),
            tenant_name: principal.tenant_name.clone(),
            key: principal.key.clone(),
            person: principal.person.clone(),
            scopes: principal.scopes.iter().map(ToString::to_string).collect(),
            models: principal
                .models
                .as_ref()
                .map(|allowed| allowed.patterns().iter().map(ToString::to_string).collect()),
        }
    }
}

impl From<Caller> for Principal {
    fn from(caller: Caller) -> Self {
        Self {
            tenant: caller.tenant,
            tenant_name: caller.tenant_name,
            key: caller.key,
            person: caller.person,
            // A newer registry may have others.
            scopes: caller.scopes.iter().filter_map(|name| name.parse::<Scope>().ok()).collect(),
            models: caller.models.map(|patterns| {
                AllowedModels::new(patterns.iter().filter_map(|pattern| pattern.parse().ok()).collect())
            }),
        }
    }
}

/// `POST …/hooks/lines`: what hooks said and how they failed, for their owners. What was not taken in is lost: nothing is charged
/// by it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WriteHookLines {
    /// At most [`MAX_HOOK_LINES`].
    pub lines: Vec<HookLine>,
}

impl Resolved {
    /// The answer to be sent.
    ///
    /// # Errors
    /// Where the registry could not tell.
    pub fn of(result: Result<ResolvedAdapter, ResolveError>) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(match result {
            Ok(ResolvedAdapter { name, version, digest, base, rank, hooks, grant }) => {
                Self::Found { name, version, digest, base, rank, hooks, grant }
            }
            Err(ResolveError::NotFound(_)) => Self::NotFound,
            Err(ResolveError::NotReady { state, .. }) => Self::NotReady { state },
            Err(ResolveError::TakenDown(_)) => Self::TakenDown,
            Err(ResolveError::NotGranted(_)) => Self::NotGranted,
            Err(ResolveError::Unavailable(cause)) => return Err(cause),
        })
    }

    /// What was meant by it, of a reference as it was written.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub fn into_result(self, reference: &str) -> Result<ResolvedAdapter, ResolveError> {
        let reference = reference.to_owned();
        match self {
            Self::Found { name, version, digest, base, rank, hooks, grant } => {
                Ok(ResolvedAdapter { name, version, digest, base, rank, hooks, grant })
            }
            Self::NotFound => Err(ResolveError::NotFound(reference)),
            Self::NotReady { state } => Err(ResolveError::NotReady { reference, state }),
            Self::TakenDown => Err(ResolveError::TakenDown(reference)),
            Self::NotGranted => Err(ResolveError::NotGranted(reference)),
        }
    }
}

impl std::fmt::Debug for Authenticate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticate").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::hooks::HookLimits;

    fn caller() -> Caller {
        Caller {
            tenant: TenantId::from_stored("ten_1"),
            tenant_name: "acme".to_owned(),
            key: KeyId::from_stored("abc"),
            person: None,
            scopes: vec!["inference".to_owned(), "of:later".to_owned()],
            models: Some(vec!["acme/*".to_owned(), "of/later/still".to_owned()]),
        }
    }

    #[test]
    fn a_caller_comes_back_as_it_was_and_a_right_of_later_grants_nothing() {
        let principal = Principal::from(caller());
        assert_eq!(principal.scopes, [Scope::Inference].into());
        assert_eq!(principal.models, Some(AllowedModels::new(vec!["acme/*".parse().unwrap()])));
        assert_eq!(Principal::from(Caller::from(&principal)), principal);
        let of_later = json!({ "tenant": "t", "tenant_name": "a", "key": "k", "scopes": [], "region": "eu" });
        assert!(serde_json::from_value::<Caller>(of_later).is_ok(), "a field of later is passed over");
    }

    #[test]
    fn every_end_of_a_resolution_comes_back_as_it_was() {
        let name: AdapterName = "acme/sst2".parse().unwrap();
        let found = ResolvedAdapter {
            name,
            version: semver::Version::new(1, 0, 0),
            digest: Digest::of(b"a"),
            base: Digest::of(b"b"),
            hooks: Some(Arc::new(Attached {
                tenant: TenantId::from_stored("ten_1"),
                variables: Arc::default(),
                limits: HookLimits::default(),
                steps: Vec::new(),
            })),
            rank: Some(16),
            grant: Some(FileGrant::new("eyJ.x.y")),
        };
        assert!(!format!("{found:?}").contains("eyJ"), "a grant is not shown");
        let there_and_back = |result: Result<ResolvedAdapter, ResolveError>| {
            let text = serde_json::to_string(&Resolved::of(result).unwrap()).unwrap();
            serde_json::from_str::<Resolved>(&text).unwrap().into_result("acme/sst2:prod")
        };
        assert_eq!(there_and_back(Ok(found.clone())).unwrap(), found);
        let reference = || "acme/sst2:prod".to_owned();
        for error in [
            ResolveError::NotFound(reference()),
            ResolveError::NotReady { reference: reference(), state: "uploading".to_owned() },
            ResolveError::TakenDown(reference()),
            ResolveError::NotGranted(reference()),
        ] {
            let told = error.to_string();
            assert_eq!(there_and_back(Err(error)).unwrap_err().to_string(), told);
        }
        assert!(Resolved::of(Err(ResolveError::Unavailable("away".into()))).is_err());
    }

    #[test]
    fn a_line_reads_as_it_is_written_here() {
        for (line, text) in [
            (Line::Anew, json!("anew")),
            (Line::Changed, json!("changed")),
            (Line::Key(KeyId::from_stored("abc")), json!({ "key": "abc" })),
            (Line::Version(Digest::of(b"a")), json!({ "version": Digest::of(b"a").to_string() })),
            (
                Line::Access {
                    adapter: "acme/sst2".parse().unwrap(),
                    from: Deprived::Tenant(TenantId::from_stored("ten_1")),
                },
                json!({ "access": { "adapter": "acme/sst2", "from": { "tenant": "ten_1" } } }),
            ),
            (Line::At { number: 7, now_ms: 9 }, json!({ "at": { "number": 7, "now_ms": 9 } })),
        ] {
            assert_eq!(serde_json::to_value(&line).unwrap(), text);
            assert_eq!(serde_json::from_value::<Line>(text).unwrap(), line);
        }
    }

    #[test]
    fn what_is_presented_is_not_shown() {
        let asked = Authenticate { presented: "souk_secret".to_owned() };
        assert!(!format!("{asked:?}").contains("secret"));
    }
}
