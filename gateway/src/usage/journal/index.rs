//! Which segments of a journal are still needed.

use std::collections::{BTreeMap, HashMap};

use souk_protocol::{RequestId, RequestRecord};

use super::line::Entry;
use crate::usage::opened::Opened;

/// A segment's number; later ones are greater.
pub(super) type Number = u64;

/// Where the last word on each unfinished request stands.
///
/// A segment is needed while the last word on some unfinished request stands in it, and while one before it is needed: a line that
/// finishes a request is never removed before the line that it finishes.
#[derive(Debug, Default)]
pub(super) struct Index {
    unfinished: HashMap<RequestId, Number>,
    /// Oldest first.
    segments: BTreeMap<Number, Counts>,
}

/// Lines of a segment.
#[derive(Debug, Default)]
struct Counts {
    all: usize,
    /// Last words on unfinished requests.
    needed: usize,
}

/// A segment of which at most one line in so many is needed is worth saying again elsewhere.
const SPARSE: usize = 8;

/// A request of which a journal does not say that it is written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfinished {
    /// It was never settled.
    Opened(Opened),
    /// It is to be written.
    Settled(RequestRecord),
}

impl Index {
    /// A segment is begun.
    pub(super) fn begin(&mut self, segment: Number) {
        self.segments.entry(segment).or_default();
    }

    /// A line stands in a segment that was begun.
    pub(super) fn note(&mut self, segment: Number, entry: &Entry) {
        self.segments.entry(segment).or_default().all += 1;
        match entry {
            Entry::Opened(opened) => self.last_word(&opened.head.request, segment),
            Entry::Settled(record) => self.last_word(&record.request, segment),
            Entry::Dropped(request) => self.finish(request),
            Entry::Written(requests) => requests.iter().for_each(|request| self.finish(request)),
        }
    }

    /// The oldest segments that nobody needs, which are forgotten; never the newest.
    pub(super) fn take_needless(&mut self) -> Vec<Number> {
        let mut needless = Vec::new();
        while self.segments.len() > 1
            && let Some(oldest) = self.segments.first_entry().filter(|oldest| oldest.get().needed == 0)
        {
            needless.push(oldest.remove_entry().0);
        }
        needless
    }

    /// The oldest segment, if few of its lines keep it and the `newer` ones behind it: a single request that takes long does.
    pub(super) fn sparse_oldest(&self, newer: usize) -> Option<Number> {
        let (number, counts) = self.segments.first_key_value()?;
        (self.segments.len() > newer && counts.needed > 0 && counts.needed * SPARSE <= counts.all).then_some(*number)
    }

    /// Whether a line of this segment speaks of a request on which the last word stands there.
    pub(super) fn needs(&self, segment: Number, entry: &Entry) -> bool {
        let request = match entry {
            Entry::Opened(opened) => &opened.head.request,
            Entry::Settled(record) => &record.request,
            Entry::Dropped(_) | Entry::Written(_) => return false,
        };
        self.unfinished.get(request) == Some(&segment)
    }

    fn last_word(&mut self, request: &RequestId, segment: Number) {
        self.finish(request);
        self.unfinished.insert(request.clone(), segment);
        self.segments.entry(segment).or_default().needed += 1;
    }

    fn finish(&mut self, request: &RequestId) {
        if let Some(segment) = self.unfinished.remove(request)
            && let Some(counts) = self.segments.get_mut(&segment)
        {
            counts.needed -= 1;
        }
    }
}

/// What a journal's entries leave unfinished, by request, in the order of their last words. A line that comes twice, or after what
/// finishes its request, changes nothing.
pub(super) fn unfinished(entries: impl IntoIterator<Item = Entry>) -> Vec<Unfinished> {
    let mut left: HashMap<RequestId, (usize, Unfinished)> = HashMap::new();
    for (place, entry) in entries.into_iter().enumerate() {
        match entry {
            Entry::Opened(opened) => {
                left.entry(opened.head.request.clone()).or_insert((place, Unfinished::Opened(opened)));
            }
            Entry::Settled(record) => {
                left.insert(record.request.clone(), (place, Unfinished::Settled(record)));
            }
            Entry::Dropped(request) => _ = left.remove(&request),
            Entry::Written(requests) => requests.iter().for_each(|request| _ = left.remove(request)),
        }
    }
    let mut left: Vec<_> = left.into_values().collect();
    left.sort_by_key(|(place, _)| *place);
    left.into_iter().map(|(_, unfinished)| unfinished).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::usage::journal::examples::{opened, settled};

    fn entry(kind: u8, name: u8) -> Entry {
        let request = format!("req_{name}");
        match kind {
            0 => Entry::Opened(opened(&request)),
            1 => Entry::Settled(settled(&request)),
            2 => Entry::Dropped(RequestId::from_stored(request)),
            _ => Entry::Written(vec![RequestId::from_stored(request)]),
        }
    }

    #[test]
    fn a_segment_goes_when_all_in_it_is_written_and_none_before_it_is_needed() {
        let mut index = Index::default();
        index.begin(1);
        index.note(1, &entry(0, 1));
        index.note(1, &entry(0, 2));
        index.begin(2);
        index.note(2, &entry(1, 1));
        index.note(2, &entry(3, 1));
        index.begin(3);
        assert_eq!(index.take_needless(), Vec::<Number>::new(), "the second is opened");
        index.note(3, &entry(1, 2));
        assert_eq!(index.take_needless(), [1, 2]);
        index.note(3, &entry(3, 2));
        assert_eq!(index.take_needless(), Vec::<Number>::new(), "the newest stays");
    }

    proptest! {
        /// A request's lines in the order that it has in a process, among those of others; segments that nobody needs removed
        /// now and then, or what they keep said again.
        #[test]
        fn what_is_unfinished_is_the_same_whatever_was_removed(
            lives in proptest::collection::vec((0_u8..4, proptest::collection::vec(0_usize..30, 3)), 1..8),
            per_segment in 1_usize..5,
            says_again: bool,
        ) {
            let mut lines: Vec<(usize, u8, Entry)> = Vec::new();
            for (name, (life, places)) in lives.iter().enumerate() {
                let kinds: &[u8] = match life { 0 => &[0], 1 => &[0, 2], 2 => &[0, 1], _ => &[0, 1, 3] };
                let mut places = places.clone();
                places.sort_unstable();
                for (step, kind) in kinds.iter().enumerate() {
                    lines.push((places[step], step as u8, entry(*kind, name as u8)));
                }
            }
            lines.sort_by_key(|(place, step, _)| (*place, *step));
            let entries: Vec<Entry> = lines.into_iter().map(|(_, _, entry)| entry).collect();
            let (mut index, mut kept) = (Index::default(), BTreeMap::<Number, Vec<Entry>>::new());
            for (segment, part) in (0..).zip(entries.chunks(per_segment)) {
                index.begin(segment);
                kept.insert(segment, part.to_vec());
                part.iter().for_each(|entry| index.note(segment, entry));
                if says_again && let Some(oldest) = index.segments.keys().next().copied().filter(|oldest| *oldest < segment) {
                    let again: Vec<_> = kept[&oldest].iter().filter(|entry| index.needs(oldest, entry)).cloned().collect();
                    again.iter().for_each(|entry| index.note(segment, entry));
                    kept.get_mut(&segment).unwrap().extend(again);
                }
                for needless in index.take_needless() {
                    kept.remove(&needless);
                }
            }
            let left: Vec<Entry> = kept.into_values().flatten().collect();
            // What was said again has another place.
            let sorted = |entries| {
                let mut left = unfinished(entries);
                left.sort_by_cached_key(|unfinished| format!("{unfinished:?}"));
                left
            };
            prop_assert_eq!(sorted(left), sorted(entries));
        }
    }
}
