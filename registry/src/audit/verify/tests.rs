use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::db::audit_entries::Model as EntryRow;

/// A chain of so many entries.
fn rows(number: i64) -> Vec<EntryRow> {
    let mut before = FIRST.to_owned();
    let entry = |number: i64| {
        let details = json!({ "keys": ["a\u{7f}\n\"", "ä\\"], "expires_at_ms": number });
        let mut row = EntryRow {
            tenant_id: "ten_1".to_owned(),
            number,
            at_ms: 1_700_000_000_000 + number,
            actor_kind: "person".to_owned(),
            actor_id: format!("per_{number}"),
            actor_key: (number % 2 == 0).then(|| "ses_1".to_owned()),
            action: "tag.put".to_owned(),
            subject: format!("acme/sst2:{number}"),
            details: details.to_string(),
            hash: String::new(),
        };
        row.hash = hash_of(&before, &row);
        before.clone_from(&row.hash);
        row
    };
    (1..=number).map(entry).collect()
}

/// The lines of the export of `rows`, the first of which follows `after`.
fn export(rows: &[EntryRow], after: i64, after_hash: &str) -> Vec<String> {
    let first = First { souk_audit: FORMAT, chain: "ten_1".to_owned(), after, after_hash: after_hash.to_owned() };
    let (end, hash) = rows.last().map_or((after, after_hash), |row| (row.number, row.hash.as_str()));
    let last = Last { end, hash: hash.to_owned() };
    let entries = rows.iter().cloned().map(|row| written(&Entry::from(row)));
    std::iter::once(written(&first)).chain(entries).chain([written(&last)]).collect()
}

fn head(row: &EntryRow) -> HeadLine {
    HeadLine { chain: "ten_1".to_owned(), number: row.number, hash: row.hash.clone() }
}

fn verify(bytes: &[u8], heads: Vec<HeadLine>) -> Result<VerifiedAudit, AuditFault> {
    let mut verifier = AuditVerifier::new(heads);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        verifier.line(line)?;
    }
    verifier.finish()
}

fn verify_lines(lines: &[String], heads: Vec<HeadLine>) -> Result<VerifiedAudit, AuditFault> {
    verify(lines.concat().as_bytes(), heads)
}

#[test]
fn a_whole_export_is_good_alone_and_with_any_of_its_heads() {
    for number in 0..5 {
        let rows = rows(number);
        let lines = export(&rows, 0, FIRST);
        for num_heads in 0..=rows.len() {
            let heads = rows[..num_heads].iter().map(head).collect();
            let verified = verify_lines(&lines, heads).unwrap();
            assert_eq!((verified.first, verified.last, verified.num_heads), (1, number, num_heads));
        }
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let rows = rows(5);
    let lines = export(&rows, 0, FIRST);
    let without = |at: usize| [&lines[..at], &lines[at + 1..]].concat();
    assert_eq!(verify_lines(&without(3), vec![]), Err(AuditFault::Missing { number: 3, found: 4 }));
    assert_eq!(verify_lines(&without(5), vec![]), Err(AuditFault::OtherEnd { last: 4, end: 5 }));
    assert_eq!(verify_lines(&without(6), vec![]), Err(AuditFault::CutOff { last: 5 }));
    let mut twice = lines.clone();
    twice.insert(4, lines[3].clone());
    assert_eq!(verify_lines(&twice, vec![]), Err(AuditFault::PutIn { number: 4, found: 3, line: 5 }));
    let mut changed = lines.clone();
    changed[2] = changed[2].replace("per_2", "per_9");
    assert_eq!(verify_lines(&changed, vec![]), Err(AuditFault::Changed { number: 2 }));
    let mut behind = lines.clone();
    behind.push(lines[3].clone());
    assert_eq!(verify_lines(&behind, vec![]), Err(AuditFault::BehindEnd { line: 8 }));
}

#[test]
fn a_chain_that_is_written_anew_or_cut_off_is_told_by_a_published_head() {
    let good = rows(5);
    let mut forged = rows(5);
    let mut before = FIRST.to_owned();
    for row in &mut forged {
        row.subject = row.subject.replace("acme", "evil");
        row.hash = hash_of(&before, row);
        before.clone_from(&row.hash);
    }
    let lines = export(&forged, 0, FIRST);
    assert!(verify_lines(&lines, vec![]).is_ok(), "nothing tells that without a head");
    assert_eq!(verify_lines(&lines, vec![head(&good[2])]), Err(AuditFault::OtherThanHead { number: 3 }));
    let cut = export(&good[..3], 0, FIRST);
    assert!(verify_lines(&cut, vec![head(&good[2])]).is_ok());
    assert_eq!(verify_lines(&cut, vec![head(&good[4])]), Err(AuditFault::BelowHead { last: 3, head: 5 }));
}

#[test]
fn what_was_kept_long_enough_is_gone_up_to_a_published_head_and_nothing_else() {
    let rows = rows(5);
    let lines = export(&rows[2..], 2, &rows[1].hash);
    let verified = verify_lines(&lines, vec![head(&rows[1]), head(&rows[4])]).unwrap();
    assert_eq!((verified.first, verified.last, verified.num_heads), (3, 5, 2));
    assert_eq!(verify_lines(&lines, vec![head(&rows[4])]), Err(AuditFault::BeginsLate { after: 2 }));
    let other = export(&rows[2..], 2, &rows[0].hash);
    assert_eq!(verify_lines(&other, vec![head(&rows[1])]), Err(AuditFault::OtherThanHead { number: 2 }));
}

/// One change of an export.
#[derive(Clone, Copy, Debug)]
enum Change {
    Byte(prop::sample::Index, u8),
    Insert(prop::sample::Index, u8),
    Remove(prop::sample::Index),
    Cut(prop::sample::Index),
    DropLine(prop::sample::Index),
    RepeatLine(prop::sample::Index, prop::sample::Index),
    SwapLines(prop::sample::Index, prop::sample::Index),
}

fn change() -> impl Strategy<Value = Change> {
    use Change::*;
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Byte(at, byte)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Insert(at, byte)),
        at().prop_map(Remove),
        at().prop_map(Cut),
        at().prop_map(DropLine),
        (at(), at()).prop_map(|(from, to)| RepeatLine(from, to)),
        (at(), at()).prop_map(|(one, other)| SwapLines(one, other)),
    ]
}

fn changed(lines: &[String], change: Change) -> Vec<u8> {
    let (mut bytes, mut lines) = (lines.concat().into_bytes(), lines.to_vec());
    match change {
        Change::Byte(at, byte) => {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        Change::Insert(at, byte) => bytes.insert(at.index(bytes.len() + 1), byte),
        Change::Remove(at) => drop(bytes.remove(at.index(bytes.len()))),
        Change::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Change::DropLine(at) => {
            lines.remove(at.index(lines.len()));
            bytes = lines.concat().into_bytes();
        }
        Change::RepeatLine(from, to) => {
            let line = lines[from.index(lines.len())].clone();
            lines.insert(to.index(lines.len() + 1), line);
            bytes = lines.concat().into_bytes();
        }
        Change::SwapLines(one, other) => {
            let (one, other) = (one.index(lines.len()), other.index(lines.len()));
            lines.swap(one, other);
            bytes = lines.concat().into_bytes();
        }
    }
    bytes
}

proptest! {
    #[test]
    fn any_one_change_of_an_export_is_found(number in 1_i64..6, change in change()) {
        let rows = rows(number);
        let lines = export(&rows, 0, FIRST);
        let heads = rows.last().map(head).into_iter().collect();
        let bytes = changed(&lines, change);
        let is_same = bytes == lines.concat().into_bytes();
        prop_assert_eq!(verify(&bytes, heads).is_ok(), is_same);
    }

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(verify(&bytes, vec![]).is_err());
    }
}
