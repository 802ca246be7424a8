//! What an entry's hash is over.

use souk_protocol::Digest;

use crate::db::audit_entries::Model as EntryRow;

/// What the first entry of a chain follows.
pub(super) const FIRST: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The hash of an entry that follows one with the hash `before`: SHA-256, in hex, over lines that end with a newline: the
/// word `souk-audit-1`, `before`, chain, number, moment in milliseconds, kind of actor, actor, its key or nothing, action,
/// and the texts of `subject` and `details` as JSON strings. No line has a newline in it: those two are escaped by JSON, the
/// others are words and ids.
pub(super) fn hash_of(before: &str, entry: &EntryRow) -> String {
    let lines = [
        "souk-audit-1",
        before,
        &entry.tenant_id,
        &entry.number.to_string(),
        &entry.at_ms.to_string(),
        &entry.actor_kind,
        &entry.actor_id,
        entry.actor_key.as_deref().unwrap_or_default(),
        &entry.action,
        &quoted(&entry.subject),
        &quoted(&entry.details),
    ];
    let text: String = lines.iter().flat_map(|line| [*line, "\n"]).collect();
    Digest::of(text.as_bytes()).hex()
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> EntryRow {
        EntryRow {
            tenant_id: "ten_1".to_owned(),
            number: 1,
            at_ms: 1_700_000_000_000,
            actor_kind: "key".to_owned(),
            actor_id: "abc".to_owned(),
            actor_key: None,
            action: "tag.put".to_owned(),
            subject: "acme/sst2@prod".to_owned(),
            details: r#"{"version":"1.0.0"}"#.to_owned(),
            hash: String::new(),
        }
    }

    #[test]
    fn the_hash_changes_with_every_column_and_with_the_entry_before() {
        let changed: [fn(&mut EntryRow); 9] = [
            |entry| entry.tenant_id.push('x'),
            |entry| entry.number += 1,
            |entry| entry.at_ms += 1,
            |entry| entry.actor_kind.push('x'),
            |entry| entry.actor_id.push('x'),
            |entry| entry.actor_key = Some("x".to_owned()),
            |entry| entry.action.push('x'),
            |entry| entry.subject.push('\n'),
            |entry| entry.details.push('x'),
        ];
        let mut hashes = vec![hash_of(FIRST, &entry()), hash_of(&FIRST.replace('0', "1"), &entry())];
        for change in changed {
            let mut entry = entry();
            change(&mut entry);
            hashes.push(hash_of(FIRST, &entry));
        }
        let num_hashes = hashes.len();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), num_hashes);
    }
}
