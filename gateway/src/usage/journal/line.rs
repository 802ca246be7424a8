//! The lines of a journal: a checksum of eight hex digits, a space, and JSON.

use serde::{Deserialize, Serialize};
use souk_protocol::{RequestId, RequestRecord};

use crate::usage::opened::Opened;

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Entry {
    /// A request is about to be queued.
    Opened(Opened),
    /// Nothing of it was queued after all.
    Dropped(RequestId),
    /// It is over, and this is what it used.
    Settled(RequestRecord),
    /// The rows of these are in the database, and their totals with the store of limits.
    Written(Vec<RequestId>),
}

/// The lines of a segment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    /// What they say, in order.
    pub(crate) entries: Vec<Entry>,
    /// Lines that are not as they were written, and are skipped.
    pub(crate) num_corrupt: usize,
    /// Whether the last line is not complete: its process died as it wrote.
    pub(crate) is_torn: bool,
}

/// Hex digits of a checksum, and the space behind it.
const HEAD_BYTES: usize = 9;

impl Entry {
    /// Appends the line, its end included.
    pub(crate) fn write(&self, lines: &mut Vec<u8>) {
        let json = serde_json::to_vec(self).expect("entries are structs with string keys");
        lines.extend(format!("{:08x} ", crc32fast::hash(&json)).as_bytes());
        lines.extend(json);
        lines.push(b'\n');
    }

    /// What a line without its end says; `None` if it is not as it was written.
    fn read(line: &[u8]) -> Option<Self> {
        let (head, json) = line.split_at_checked(HEAD_BYTES)?;
        let sum = std::str::from_utf8(head).ok()?.strip_suffix(' ')?;
        // Written with digits of one form alone: no sign, no capital.
        let is_sum = sum.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let sum = is_sum.then(|| u32::from_str_radix(sum, 16).ok())??;
        if crc32fast::hash(json) != sum {
            return None;
        }
        serde_json::from_slice(json).ok()
    }
}

impl Lines {
    /// Reads all lines of a segment, whatever its bytes are.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let mut lines = Self::default();
        let mut parts = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(line) = parts.next() {
            if parts.peek().is_none() {
                // Behind the last end of a line there is nothing, or what was being written.
                lines.is_torn = !line.is_empty();
                break;
            }
            match Entry::read(line) {
                Some(entry) => lines.entries.push(entry),
                None => lines.num_corrupt += 1,
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::usage::journal::examples::{opened, settled};

    fn entries() -> Vec<Entry> {
        let id = |name: &str| RequestId::from_stored(name);
        vec![
            Entry::Opened(opened("req_1")),
            Entry::Settled(settled("req_1")),
            Entry::Dropped(id("req_2")),
            Entry::Written(vec![id("req_1"), id("req_3")]),
        ]
    }

    fn written(entries: &[Entry]) -> Vec<u8> {
        let mut lines = Vec::new();
        entries.iter().for_each(|entry| entry.write(&mut lines));
        lines
    }

    #[test]
    fn what_is_written_is_read() {
        let read = Lines::read(&written(&entries()));
        assert_eq!(read, Lines { entries: entries(), num_corrupt: 0, is_torn: false });
        assert_eq!(Lines::read(b""), Lines::default());
    }

    proptest! {
        #[test]
        fn a_journal_that_is_cut_anywhere_says_what_stands_before_the_cut(cut in any::<prop::sample::Index>()) {
            let lines = written(&entries());
            let cut = cut.index(lines.len() + 1);
            let num_whole = lines[..cut].iter().filter(|byte| **byte == b'\n').count();
            let read = Lines::read(&lines[..cut]);
            prop_assert_eq!(&read.entries[..], &entries()[..num_whole]);
            prop_assert_eq!(read.num_corrupt, 0);
            prop_assert_eq!(read.is_torn, cut > 0 && lines[cut - 1] != b'\n');
        }

        #[test]
        fn a_byte_that_changed_costs_its_line_and_no_other(at in any::<prop::sample::Index>(), byte: u8) {
            let mut lines = written(&entries());
            let at = at.index(lines.len());
            // A line that is torn in two or joined to the next takes that along.
            prop_assume!(byte != lines[at] && byte != b'\n' && lines[at] != b'\n');
            lines[at] = byte;
            let read = Lines::read(&lines);
            prop_assert_eq!((read.entries.len(), read.num_corrupt, read.is_torn), (entries().len() - 1, 1, false));
            prop_assert!(read.entries.iter().all(|entry| entries().contains(entry)));
        }

        #[test]
        fn no_bytes_break_the_reader(bytes: Vec<u8>) {
            let read = Lines::read(&bytes);
            let num_ends = bytes.iter().filter(|byte| **byte == b'\n').count();
            prop_assert_eq!(read.entries.len() + read.num_corrupt, num_ends);
        }
    }

    #[test]
    fn any_bytes_of_a_journal_are_lines_or_counted_as_none() {
        souk_testkit::fuzz("journal", |bytes| {
            // What is tried is the reader behind the checksum, too.
            let Ok(entry) = serde_json::from_slice::<Entry>(bytes) else { return "no entry".to_owned() };
            let read = Lines::read(&written(std::slice::from_ref(&entry)));
            assert_eq!(read.entries, std::slice::from_ref(&entry));
            match entry {
                Entry::Opened(opened) => format!("opened {}", opened.choices.min(1)),
                Entry::Settled(record) => format!("settled {}", record.jobs.len().min(2)),
                Entry::Dropped(_) => "dropped".to_owned(),
                Entry::Written(ids) => format!("written {}", ids.len().min(2)),
            }
        });
    }
}
