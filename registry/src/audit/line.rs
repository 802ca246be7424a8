//! The lines of an export: a head that says which chain it is and what its first entry follows, an entry a line, and an
//! end. Each line is written in one way only, so that not a byte of it can be changed unseen.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::db::audit_entries::Model as EntryRow;

/// The version of the format.
pub(super) const FORMAT: u32 = 1;

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct First {
    pub(super) souk_audit: u32,
    pub(super) chain: String,
    /// The number of the entry before the first one; 0 where the chain is whole.
    pub(super) after: i64,
    /// The hash of that entry; zeros where the chain is whole.
    pub(super) after_hash: String,
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) number: i64,
    pub(super) at_ms: i64,
    pub(super) actor_kind: String,
    pub(super) actor_id: String,
    pub(super) actor_key: Option<String>,
    pub(super) action: String,
    pub(super) subject: String,
    pub(super) details: Value,
    pub(super) hash: String,
}

/// The last line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Last {
    /// The number of the last entry, or of the one that an export without entries follows.
    pub(super) end: i64,
    pub(super) hash: String,
}

/// A line as it stands in an export, with its end.
pub(super) fn written(line: &impl Serialize) -> String {
    let mut text = serde_json::to_string(line).expect("lines have only text keys");
    text.push('\n');
    text
}

impl From<EntryRow> for Entry {
    fn from(row: EntryRow) -> Self {
        Self {
            number: row.number,
            at_ms: row.at_ms,
            actor_kind: row.actor_kind,
            actor_id: row.actor_id,
            actor_key: row.actor_key,
            action: row.action,
            subject: row.subject,
            // What is no JSON was changed, and its hash says so.
            details: serde_json::from_str(&row.details).unwrap_or(Value::String(row.details)),
            hash: row.hash,
        }
    }
}

impl Entry {
    /// As the table has it.
    pub(super) fn into_row(self, chain: &str) -> EntryRow {
        EntryRow {
            tenant_id: chain.to_owned(),
            number: self.number,
            at_ms: self.at_ms,
            actor_kind: self.actor_kind,
            actor_id: self.actor_id,
            actor_key: self.actor_key,
            action: self.action,
            subject: self.subject,
            details: self.details.to_string(),
            hash: self.hash,
        }
    }
}
