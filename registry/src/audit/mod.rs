//! Who changed what: one entry for each change of rights, members, keys, limits and states, appended in the change's own
//! transaction, so that either both are there or neither is.
//!
//! Entries form a chain for each tenant: each carries a hash over the one before, so that none can be changed, taken out
//! or put in without all later hashes being wrong. Those who act are named by ids alone, so that a person can be erased and
//! the chain stays what it was.
//!
//! Where a chain ends is published every hour ([`publish`]), in a table that only grows and in the log: who keeps one such
//! head can tell, of an export ([`line`]) that is made at any time later, whether what came before it is still what it was
//! ([`verify`]). docs/audit.md has the exact bytes, for a verifier of another's making.

mod hash;
mod line;
mod publish;
mod read;
mod verify;

use sea_orm::{DatabaseTransaction, DbErr};
use serde_json::Value;
use souk_protocol::Principal;

use crate::db::audit_entries::Model as EntryRow;
use crate::db::{audit_entries, audit_heads, now_ms};

use hash::{FIRST, hash_of};

pub(crate) use publish::Publisher;
pub(crate) use read::ChainRequest;
pub use verify::{AuditFault, AuditVerifier, HeadLine, VerifiedAudit};

/// The chain of what belongs to no tenant.
pub(crate) const INSTALLATION: &str = "installation";

/// Who made a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Actor {
    /// A service, by its key.
    Key(String),
    /// A person, by a session or a key of theirs.
    Person { id: String, key: String },
    /// Whoever has the host: a command that asks for no key.
    Host,
    /// The registry by itself: what had lapsed was ended.
    System,
}

/// What was done with what.
pub(crate) struct Act<'a> {
    /// Whose chain it goes to: the id of the tenant whose thing it is, or [`INSTALLATION`].
    pub(crate) tenant_id: &'a str,
    /// As `key.created`.
    pub(crate) action: &'static str,
    /// The id or name of the thing.
    pub(crate) subject: &'a str,
    /// An object with what else tells the change: ids, states, no texts of persons.
    pub(crate) details: Value,
}

impl Actor {
    /// Who calls.
    pub(crate) fn of(principal: &Principal) -> Self {
        let key = principal.key.to_string();
        match &principal.person {
            Some(person) => Self::Person { id: person.to_string(), key },
            None => Self::Key(key),
        }
    }

    /// Kind, id and the key or session that was used, as the columns have them.
    fn into_columns(self) -> (&'static str, String, Option<String>) {
        match self {
            Self::Key(id) => ("key", id, None),
            Self::Person { id, key } => ("person", id, Some(key)),
            Self::Host => ("host", String::new(), None),
            Self::System => ("system", String::new(), None),
        }
    }
}

/// Appends an entry to its chain in the transaction of the change. Nobody else appends to that chain before the
/// transaction ends, so call it when all else is done.
pub(crate) async fn append(transaction: &DatabaseTransaction, actor: Actor, act: Act<'_>) -> Result<(), DbErr> {
    let mut head = audit_heads::lock(transaction, act.tenant_id, FIRST).await?;
    head.number += 1;
    let (actor_kind, actor_id, actor_key) = actor.into_columns();
    let mut entry = EntryRow {
        tenant_id: act.tenant_id.to_owned(),
        number: head.number,
        at_ms: now_ms(),
        actor_kind: actor_kind.to_owned(),
        actor_id,
        actor_key,
        action: act.action.to_owned(),
        subject: act.subject.to_owned(),
        details: act.details.to_string(),
        hash: String::new(),
    };
    entry.hash = hash_of(&head.hash, &entry);
    head.hash.clone_from(&entry.hash);
    audit_entries::insert(transaction, entry).await?;
    audit_heads::advance(transaction, head).await
}
