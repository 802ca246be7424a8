//! Hooks that are kept in memory, up to a number and to bytes; what was used least recently makes room.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use souk_protocol::Digest;

/// Values by digest, each with its bytes.
#[derive(Debug)]
pub(crate) struct Residents<T> {
    most: usize,
    most_bytes: usize,
    bytes: usize,
    kept: HashMap<Digest, Kept<T>>,
    /// When each was used last.
    in_order: BTreeMap<u64, Digest>,
    next: u64,
}

#[derive(Debug)]
struct Kept<T> {
    value: Arc<T>,
    bytes: usize,
    used: u64,
}

impl<T> Residents<T> {
    pub(crate) fn new(most: usize, most_bytes: usize) -> Self {
        Self { most, most_bytes, bytes: 0, kept: HashMap::new(), in_order: BTreeMap::new(), next: 0 }
    }

    pub(crate) fn get(&mut self, digest: &Digest) -> Option<Arc<T>> {
        let now = self.next;
        let kept = self.kept.get_mut(digest)?;
        self.in_order.remove(&kept.used);
        self.in_order.insert(now, *digest);
        kept.used = now;
        self.next += 1;
        Some(Arc::clone(&kept.value))
    }

    /// Keeps a value; the newest is kept even if it is larger than all may be.
    pub(crate) fn keep(&mut self, digest: Digest, value: Arc<T>, bytes: usize) {
        self.forget(&digest);
        while self.kept.len() >= self.most || (self.bytes + bytes > self.most_bytes && !self.kept.is_empty()) {
            let Some((_, oldest)) = self.in_order.first_key_value() else { break };
            let oldest = *oldest;
            self.forget(&oldest);
        }
        self.bytes += bytes;
        self.in_order.insert(self.next, digest);
        self.kept.insert(digest, Kept { value, bytes, used: self.next });
        self.next += 1;
    }

    pub(crate) fn forget(&mut self, digest: &Digest) {
        if let Some(kept) = self.kept.remove(digest) {
            self.bytes -= kept.bytes;
            self.in_order.remove(&kept.used);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest(number: u8) -> Digest {
        Digest::of(&[number])
    }

    #[test]
    fn what_was_used_least_recently_makes_room() {
        let mut residents = Residents::new(2, 100);
        residents.keep(digest(1), Arc::new(1), 10);
        residents.keep(digest(2), Arc::new(2), 10);
        assert_eq!(residents.get(&digest(1)).as_deref(), Some(&1));
        residents.keep(digest(3), Arc::new(3), 10);
        assert!(residents.get(&digest(2)).is_none());
        residents.keep(digest(4), Arc::new(4), 95);
        assert_eq!((residents.len(), residents.bytes()), (1, 95));
        residents.keep(digest(5), Arc::new(5), 200);
        assert_eq!((residents.len(), residents.bytes()), (1, 200));
    }

    proptest! {
        #[test]
        fn its_books_always_balance(acts in prop::collection::vec((0..8_u8, 0..3_u8, 1..40_usize), 0..100)) {
            let mut residents = Residents::new(4, 100);
            for (number, act, bytes) in acts {
                match act {
                    0 => residents.forget(&digest(number)),
                    1 => drop(residents.get(&digest(number))),
                    _ => residents.keep(digest(number), Arc::new(number), bytes),
                }
                prop_assert!(residents.len() <= 4 && residents.bytes() <= 100);
                prop_assert_eq!(residents.kept.values().map(|kept| kept.bytes).sum::<usize>(), residents.bytes());
                prop_assert_eq!(residents.in_order.len(), residents.len());
                for (used, digest) in &residents.in_order {
                    prop_assert_eq!(residents.kept[digest].used, *used);
                }
            }
        }
    }
}
