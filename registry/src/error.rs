//! Everything that can go wrong in the registry.
//!
//! The policy: a variant per cause that a caller can act on, with the facts (limit and given). `http/problem.rs` gives
//! each its status and stable code. Causes that only an operator can act on (`Database`, `Storage`) are logged where
//! they are answered, and the caller learns no more than that it is not their fault.

use std::io;

use sea_orm::{DbErr, RuntimeErr, sqlx};
use souk_protocol::gate::Refusal;
use souk_protocol::limits::Policy;
use souk_protocol::peft::ProblemCode;
use souk_protocol::{Digest, Scope};
use time::OffsetDateTime;

use crate::auth::AuthError;
use crate::objects::{is_storage_full, is_unavailable};

/// Why a request to the registry failed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The caller is not known.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The key does not carry the right that the route needs.
    #[error("this needs a key with the scope `{0}`")]
    MissingScope(Scope),
    /// Operators' keys do not work on the port that everybody may reach.
    #[error(
        "a key with the scope `admin` works on the operators' port only, which the setting server.admin_listen names"
    )]
    OperatorsPortOnly,
    /// What the service is may not ask this.
    #[error("the key is that of a {0}, which may not ask this; `souk services create` makes keys of each kind")]
    NotForService(&'static str),
    /// A file without a grant.
    #[error("a file is fetched with the grant that came in a job for its version, in the header `x-souk-file-grant`")]
    GrantMissing,
    /// A grant that this installation did not sign.
    #[error("the file grant is none of this installation's")]
    GrantForeign,
    /// A grant that was good once.
    #[error("the file grant has expired: its job was asked for more than {} s ago", souk_http::token::LIFETIME.as_secs())]
    GrantExpired,
    /// A grant for the files of another version.
    #[error("the file grant is for the files of {version}, and {file} is none of them")]
    GrantOfAnother {
        /// The version that it is for.
        version: Digest,
        /// The file that was asked for.
        file: Digest,
    },
    /// A key may not grant more than it has.
    #[error("a key cannot grant the scope `{0}`, which it does not have itself")]
    ScopeNotHeld(Scope),
    /// A token is made from a key alone, or its life had no end.
    #[error("a token is exchanged for a key, and a token was presented")]
    TokenForToken,
    /// The cookie is of no session: malformed, unknown, or with a wrong secret.
    #[error("the session is not valid; sign in again")]
    SessionInvalid,
    /// The session was ended, was not used for too long, or its time is over.
    #[error("the session is over; sign in again")]
    SessionOver,
    /// A page of another site may have sent the call.
    #[error(
        "a call with a session that changes something comes from a page of server.public_url and has the header `x-csrf-token`, which GET /registry/v1/auth/session tells"
    )]
    Forged,
    /// The route is about the session itself.
    #[error("this is for a person who is signed in with a browser; a key or token was presented")]
    SessionNeeded,
    /// The session acts for no tenant.
    #[error("you are a member of no tenant, or have left it; use an invitation, or choose another tenant")]
    NoTenant,
    /// The session began with a link that an owner made.
    #[error("this session is confined to one tenant, since an owner of that made the link which it began with")]
    SessionConfined,
    /// Nobody acts for the tenant any more.
    #[error("the tenant was erased, or is being erased")]
    TenantErased,
    /// A tenant keeps an owner.
    #[error("the tenant would have no owner; make another member an owner first")]
    LastOwner,
    /// The person is a member.
    #[error("the person is a member already")]
    AlreadyMember,
    /// A link that is none, or was used and leaves no trace.
    #[error("the link is not known, or was used; ask who gave it to you for another")]
    LinkUnknown,
    /// A link that was good once.
    #[error("the link was used, taken back or has expired; ask who gave it to you for another")]
    LinkOver,
    /// No link signs in.
    #[error("links do not sign in here; sign in with a provider")]
    LinksOff,
    /// A provider of identities vouches for another address than the one that was invited.
    #[error("the invitation is for another address than the one that you are signed in with")]
    OtherAddress,
    /// Nobody of that identity is known.
    #[error("this account is not known here; open the link of an invitation, and sign in from there")]
    NotInvited,
    /// What a provider of identities answered cannot be believed, or it does not answer.
    #[error("signing in with the provider failed: {0}; begin again")]
    Provider(String),
    /// People make no tenants by themselves.
    #[error("tenants are made by the operator here; ask for an invitation")]
    SelfServiceOff,
    /// One address tries too much.
    #[error("too many attempts from your address; wait a minute")]
    TooManyAttempts,
    /// Nobody knows where browsers reach the installation.
    #[error("nobody can sign in, since the setting server.public_url is empty")]
    NoPublicUrl,
    /// Revoking the key would revoke the caller's own, which was made with it, and perhaps leave nobody to undo that.
    #[error(
        "the key that you use was made with the key `{0}` and would be revoked with it; keep what that key made with `?made_keys=keep`, or use another key"
    )]
    OwnKeyMadeWithIt(String),
    /// A key may not make one that outlives it.
    #[error("the key that you use expires at {own}, and a key that it makes cannot live longer")]
    ExpiryNotHeld {
        /// When the caller's key expires.
        own: OffsetDateTime,
    },
    /// A key may not allow a model that its own list does not.
    #[error("the key that you use has a list of models, and `{0}` is not within it")]
    ModelNotHeld(String),
    /// Only a person can do it, and the key is a service's.
    #[error("this is done by a person, with a session or a key of their own; the key that you use is a service's")]
    PersonNeeded,
    /// The tenant's policy of keys does not allow it.
    #[error("the tenant's policy lets `{field}` be {limit}, given {given}; who has the scope `tenant:manage` sets it")]
    AgainstPolicy {
        /// The field of the key.
        field: &'static str,
        /// What is allowed.
        limit: String,
        /// What was asked for.
        given: String,
    },
    /// A limit that would say nothing, since one above binds first.
    #[error(
        "`{policy}` of this {level} cannot be {given}, since its {above} has {limit}; set no more than that, or let the {above} have more first"
    )]
    BeyondLevelAbove {
        /// What is limited.
        policy: Policy,
        /// The level that it was to be set at.
        level: &'static str,
        /// What was asked for.
        given: u64,
        /// The broadest level above that has less.
        above: &'static str,
        /// What that has.
        limit: u64,
    },
    /// A limit is used up.
    #[error("`{policy}` of this {level} is {limit}, and {used} are used; there is more from {again_at} on")]
    LimitReached {
        /// What is limited.
        policy: Policy,
        /// The broadest level that has no more.
        level: &'static str,
        /// Most in its period.
        limit: u64,
        /// What is used of it.
        used: u64,
        /// When the period is over.
        again_at: OffsetDateTime,
        /// Seconds until then.
        retry_after_s: u64,
    },
    /// Ending the keys that break a policy would end the caller's own.
    #[error(
        "the key that you use breaks this policy and would end with the others; set it with another key, or end none"
    )]
    OwnKeyAgainstPolicy,
    /// Another key has taken its place.
    #[error("the key `{key}` was rotated already: `{successor}` has taken its place")]
    AlreadyRotated {
        /// The key.
        key: String,
        /// The one that follows it.
        successor: String,
    },
    /// A key that works no more is not rotated.
    #[error("the key `{key}` {state} and cannot be rotated; make another")]
    KeyOver {
        /// The key.
        key: String,
        /// What became of it.
        state: &'static str,
    },
    /// A person's key is rotated by that person alone, who then has the new one.
    #[error("the key `{0}` is another person's, who alone can rotate it; you can revoke it")]
    OthersKey(String),
    /// Gated, and not granted to the caller's tenant.
    #[error("`{0}` is gated and your tenant has no access; ask its owner with POST /adapters/{0}/access-requests")]
    AccessNeeded(String),
    /// Nothing to ask for.
    #[error("your tenant has access to `{0}` already")]
    AlreadyGranted(String),
    /// What became of a request for access does not allow it.
    #[error("the request `{id}` is {state} and cannot be {action}")]
    WrongRequestState {
        /// Its id.
        id: String,
        /// Its state.
        state: String,
        /// What was asked for, for example `approved`.
        action: &'static str,
    },
    /// Visible, but another tenant's.
    #[error("`{name}` belongs to `{owner}`; only its owner may change it")]
    NotOwner {
        /// The adapter.
        name: String,
        /// Its owner.
        owner: String,
    },
    /// Nothing of that name that this caller may see: absent and hidden are not told apart.
    #[error("{what} `{name}` does not exist or you do not have access to it")]
    NotFound {
        /// Adapter, version, tag, file, tenant or key.
        what: &'static str,
        /// As asked for.
        name: String,
    },
    /// The name or number is in use.
    #[error("{what} `{name}` already exists")]
    AlreadyExists {
        /// Adapter, version or tenant.
        what: &'static str,
        /// As asked for.
        name: String,
    },
    /// The name or number belonged to something deleted. It is never given again, so that nobody who pinned it gets
    /// other content.
    #[error("{what} `{name}` was deleted, and its name cannot be used again")]
    Retired {
        /// Adapter or version.
        what: &'static str,
        /// As asked for.
        name: String,
    },
    /// Whoever operates the installation needs a tenant.
    #[error("the operator's own tenant cannot be erased")]
    OperatorsTenant,
    /// Another upload of the same number is running.
    #[error("version `{0}` is being uploaded by another request")]
    UploadInProgress(String),
    /// The object store takes no bytes from clients themselves.
    #[error(
        "this installation keeps objects in a folder, to which clients cannot send themselves; send all files in one form with POST …/versions"
    )]
    NoDirectUploads,
    /// Parts of an upload have not arrived, or not as they should.
    #[error(
        "of the {num_parts} parts of the upload {num_missing} have not arrived: {first}; send them, then complete it"
    )]
    PartsMissing {
        /// How many there are.
        num_parts: u64,
        /// How many have not arrived.
        num_missing: u64,
        /// The numbers of the first of them.
        first: String,
    },
    /// All parts of an upload are one object by now, and no other bytes can be sent.
    #[error("all bytes of the upload `{0}` are here; complete it, or end it and begin another")]
    PartsTaken(String),
    /// What arrived is not what was announced.
    #[error(
        "the bytes of {file} that were sent are not those that were announced: expected {expected}, given {given}; the upload was ended"
    )]
    WrongBytes {
        /// The file's name.
        file: &'static str,
        /// Digest and length, as announced.
        expected: String,
        /// Digest and length of what is there.
        given: String,
    },
    /// The version's state does not allow it.
    #[error("version `{name}` is {state} and cannot be {action}")]
    WrongState {
        /// `owner/name@version`.
        name: String,
        /// Its state.
        state: String,
        /// What was asked for, for example `yanked`.
        action: &'static str,
    },
    /// The version was taken down by the operator.
    #[error("version `{0}` was taken down")]
    TakenDown(String),
    /// The content was taken down by the operator, under whatever name.
    #[error("the content {digest} was taken down by the operator ({reason}) and cannot be published again")]
    ContentTakenDown {
        /// Of the manifest or the weights file.
        digest: String,
        /// The operator's reason.
        reason: String,
    },
    /// The uploaded files are not an adapter that this installation can serve.
    #[error("the upload was rejected with {} problem(s)", .0.len())]
    Rejected(Vec<Finding>),
    /// The uploaded component is no hook that this installation can serve.
    #[error("the hook was rejected with {} problem(s)", .0.len())]
    HookRejected(Vec<Finding>),
    /// The compiler is busy, or fails for no fault of the component.
    #[error("hooks cannot be looked at now; retry in a few seconds")]
    HookNotJudged(#[source] io::Error),
    /// Nothing looks at components here.
    #[error("this registry takes no hooks: they are turned off in its settings")]
    HooksOff,
    /// The request breaks the API's rules.
    #[error("{detail}")]
    BadRequest {
        /// Stable code.
        code: &'static str,
        /// A sentence.
        detail: String,
        /// One entry per wrong field, where fields are known.
        findings: Vec<Finding>,
    },
    /// The body has another format than the route takes.
    #[error("{0}")]
    UnsupportedMediaType(String),
    /// Larger than allowed.
    #[error("{what} is larger than the limit of {limit_bytes} bytes")]
    TooLarge {
        /// The body or a file's name.
        what: String,
        /// The limit.
        limit_bytes: u64,
    },
    /// The body stopped coming.
    #[error("the upload sent nothing for {idle_seconds} seconds and was given up")]
    TooSlow {
        /// The limit.
        idle_seconds: u64,
    },
    /// A gate does not let the caller in.
    #[error("{what}: {refusal}; retry in a few seconds")]
    NotLetIn {
        /// What there is no more of, for example `uploads`.
        what: &'static str,
        /// The numbers.
        refusal: Refusal,
    },
    /// There are as many of something as there may be.
    #[error("{of} has {given} {what}, and {setting} is {limit}; {remedy}")]
    TooMany {
        /// Keys, adapters, versions or tags.
        what: &'static str,
        /// Who has them.
        of: String,
        /// The setting that bounds them.
        setting: &'static str,
        /// Its value.
        limit: usize,
        /// How many there are.
        given: u64,
        /// What to do.
        remedy: &'static str,
    },
    /// What was asked for would not leave enough room, or more than the tenant's share. Says the setting and the numbers.
    #[error("there is no room for it: {0}")]
    InsufficientStorage(String),
    /// The body came more slowly than bodies have to.
    #[error("the body came more slowly than the settings server.min_body_rate and server.body_rate_window_ms ask for")]
    SlowBody,
    /// The `Idempotency-Key` was used with another body.
    #[error("the Idempotency-Key was already used for a request with another body")]
    IdempotencyMismatch,
    /// The first request with this `Idempotency-Key` has not ended.
    #[error("a request with this Idempotency-Key is still running; retry later")]
    IdempotencyInFlight,
    /// This registry stalled for longer than its lease, and another ended what it was doing.
    #[error("this registry stalled and another one has ended the request; nothing was made, send it again")]
    LeaseLost,
    /// No room left for blobs or rows.
    #[error("the registry's storage is full; nothing was stored. The operator has to free disk space")]
    StorageFull,
    /// The database is locked by another writer, or no connection to it is to be had, for longer than a request waits.
    #[error("the registry's database is busy or cannot be reached; retry in a few seconds")]
    Busy(#[source] DbErr),
    /// The connection to the database broke. What was asked for may have been done.
    #[error(
        "the connection to the registry's database broke; retry in a few seconds, what makes something with the same Idempotency-Key"
    )]
    ConnectionLost(#[source] DbErr),
    /// The object store cannot be reached, or not be used now.
    #[error(
        "the registry's object store cannot be reached or used now; retry in a few seconds, what makes something with the same Idempotency-Key"
    )]
    StoreUnavailable(#[source] io::Error),
    /// The bytes of a file are not those that were published. Never handed out under their digest.
    #[error(
        "the stored bytes of {file} are not those with the digest {digest}; the operator has to restore them from a backup"
    )]
    ObjectCorrupted {
        /// The file's name.
        file: String,
        /// The digest that it should have.
        digest: String,
    },
    /// The bytes of a file are gone.
    #[error(
        "the stored bytes of {file} with the digest {digest} are missing; the operator has to restore them from a backup"
    )]
    ObjectMissing {
        /// The file's name.
        file: String,
        /// Its digest.
        digest: String,
    },
    /// The database failed.
    #[error("the registry cannot answer now")]
    Database(#[source] DbErr),
    /// The object store failed.
    #[error("the registry cannot answer now")]
    Storage(#[source] io::Error),
}

/// One of several things wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Stable code.
    pub code: String,
    /// Which field or file, for example `description` or `adapter_config.json`.
    pub subject: String,
    /// A sentence with the facts.
    pub message: String,
}

impl RegistryError {
    /// Ends a call that would make one more than `limit`.
    pub(crate) fn unless_fewer(given: u64, limit: usize, error: impl FnOnce(u64, usize) -> Self) -> Result<(), Self> {
        if given < limit as u64 { Ok(()) } else { Err(error(given, limit)) }
    }

    /// A request that breaks the API's rules as a whole.
    pub(crate) fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::BadRequest { code, detail: detail.into(), findings: Vec::new() }
    }

    /// A sign-in with a provider of identities that came to nothing.
    pub(crate) fn provider(why: impl Into<String>) -> Self {
        Self::Provider(why.into())
    }

    /// Ends the check of a body's fields: an error with all findings, if there are any.
    pub(crate) fn unless_valid(findings: Vec<Finding>) -> Result<(), Self> {
        if findings.is_empty() { Ok(()) } else { Err(Self::invalid(findings)) }
    }

    /// A body with fields that are wrong, which are all of `findings`.
    pub(crate) fn invalid(findings: Vec<Finding>) -> Self {
        let detail = format!("the body has {} invalid field(s)", findings.len());
        Self::BadRequest { code: "invalid_fields", detail, findings }
    }
}

impl Finding {
    /// A field of a JSON body with a value that is not allowed.
    pub(crate) fn field(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: "invalid_value".to_owned(), subject: subject.into(), message: message.into() }
    }
}

/// The stable name of a problem's kind, which is its serialised form.
pub(crate) fn code_name(code: ProblemCode) -> String {
    serde_json::to_value(code).ok().and_then(|code| code.as_str().map(str::to_owned)).unwrap_or_default()
}

impl From<DbErr> for RegistryError {
    fn from(error: DbErr) -> Self {
        if is_database_full(&error) {
            Self::StorageFull
        } else if is_busy(&error) {
            Self::Busy(error)
        } else if is_connection_lost(&error) {
            Self::ConnectionLost(error)
        } else if is_no_text(&error) {
            Self::bad_request("invalid_text", "texts must not have the character U+0000")
        } else {
            Self::Database(error)
        }
    }
}

impl From<io::Error> for RegistryError {
    fn from(error: io::Error) -> Self {
        if is_storage_full(&error) {
            Self::StorageFull
        } else if is_unavailable(&error) {
            Self::StoreUnavailable(error)
        } else {
            Self::Storage(error)
        }
    }
}

/// SQLite says SQLITE_FULL, PostgreSQL `disk_full`.
fn is_database_full(error: &DbErr) -> bool {
    matches!(database_code(error).as_deref(), Some("13" | "53100"))
}

/// SQLite says SQLITE_BUSY or SQLITE_LOCKED, with more of the cause in the higher bytes; PostgreSQL
/// `lock_not_available`, `too_many_connections`, or that it ended a transaction for others to go on
/// (`serialization_failure`, `deadlock_detected`). Our own pool says that no connection came free.
pub(crate) fn is_busy(error: &DbErr) -> bool {
    if matches!(error, DbErr::ConnectionAcquire(_)) {
        return true;
    }
    let code = database_code(error);
    // A code of PostgreSQL has five characters, and some of them are digits alone.
    let of_sqlite = code.as_deref().filter(|code| code.len() < 5).and_then(|code| code.parse::<u32>().ok());
    let primary = of_sqlite.map(|code| code & 0xff);
    matches!(code.as_deref(), Some("55P03" | "53300" | "40001" | "40P01")) || matches!(primary, Some(5 | 6))
}

/// The network says so, or PostgreSQL in its class 08, as it shuts down or starts (`admin_shutdown`, `crash_shutdown`,
/// `cannot_connect_now`), as it ends a transaction that nobody went on with, or as what was a primary is one no more.
pub(crate) fn is_connection_lost(error: &DbErr) -> bool {
    let is_broken = |cause: &sqlx::Error| {
        matches!(
            cause,
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed
        )
    };
    cause_of(error).is_some_and(is_broken)
        || database_code(error).is_some_and(|code| {
            code.len() == 5
                && (code.starts_with("08") || ["57P01", "57P02", "57P03", "25P03", "25006"].contains(&&*code))
        })
}

/// PostgreSQL says `character_not_in_repertoire`: its texts have every character but one.
fn is_no_text(error: &DbErr) -> bool {
    database_code(error).as_deref() == Some("22021")
}

/// PostgreSQL's classes of values that a column or a key cannot have, whoever writes them: 22, 23 without that it is there already,
/// and 54 (a key that is too long).
pub(crate) fn is_never_taken(error: &DbErr) -> bool {
    database_code(error)
        .is_some_and(|code| code.len() == 5 && ["22", "23", "54"].contains(&&code[..2]) && code != "23505")
}

fn database_code(error: &DbErr) -> Option<String> {
    cause_of(error)?.as_database_error().and_then(|error| error.code()).map(Into::into)
}

fn cause_of(error: &DbErr) -> Option<&sqlx::Error> {
    match error {
        DbErr::Exec(RuntimeErr::SqlxError(cause))
        | DbErr::Query(RuntimeErr::SqlxError(cause))
        | DbErr::Conn(RuntimeErr::SqlxError(cause)) => Some(cause),
        _ => None,
    }
}
