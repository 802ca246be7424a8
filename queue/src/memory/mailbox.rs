//! Notes kept for a reader that fetches them.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// Notes by reader. A note that nobody fetched for `keep` is dropped: its reader is gone.
#[derive(Debug)]
pub(super) struct Mailboxes<Reader, Note> {
    keep: Duration,
    boxes: HashMap<Reader, Vec<(Instant, Note)>>,
}

impl<Reader: Eq + Hash + Clone, Note> Mailboxes<Reader, Note> {
    pub(super) fn new(keep: Duration) -> Self {
        Self { keep, boxes: HashMap::new() }
    }

    pub(super) fn post(&mut self, reader: &Reader, note: Note, now: Instant) {
        let keep = self.keep;
        self.boxes.entry(reader.clone()).or_default().push((now, note));
        self.boxes.retain(|_, notes| {
            notes.retain(|(posted, _)| now.duration_since(*posted) <= keep);
            !notes.is_empty()
        });
    }

    /// All notes for `reader`, oldest first; `None` if there are none.
    pub(super) fn take(&mut self, reader: &Reader) -> Option<Vec<Note>> {
        let notes = self.boxes.remove(reader)?;
        Some(notes.into_iter().map(|(_, note)| note).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn notes_for_a_reader_that_is_gone_do_not_pile_up() {
        let mut mailboxes = Mailboxes::new(Duration::from_secs(10));
        for _ in 0..100 {
            mailboxes.post(&"gone", 1, Instant::now());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!(mailboxes.take(&"gone").expect("the newest are kept").len() <= 11);
        assert_eq!(mailboxes.take(&"gone"), None);
    }
}
