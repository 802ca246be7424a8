//! Answers that are kept for a moment, by question, so that whoever is asked is asked less often.
//!
//! There is room for so many. Where it is full, what is too old to be of use makes room first, and then whoever has most:
//! a flood of questions of one holder takes nothing from others.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Answers by question `K`, each the share of a holder `H`.
#[derive(Debug)]
pub struct Recent<H, K, V> {
    most: usize,
    useful_for: Duration,
    /// Locked for a look.
    state: Mutex<State<H, K, V>>,
}

/// An answer that was had.
#[derive(Debug)]
pub struct Had<V> {
    /// What was answered.
    pub answer: Arc<V>,
    /// When it was asked for: it is at least as new.
    pub at: Instant,
    /// Under which number of changes it was asked for.
    pub change: u64,
}

#[derive(Debug)]
struct State<H, K, V> {
    answers: HashMap<K, Kept<H, V>>,
    /// In the order in which they came.
    in_order: BTreeMap<u64, K>,
    /// The same of each holder.
    of_holders: HashMap<H, BTreeSet<u64>>,
    /// How many each has.
    sizes: BTreeSet<(usize, H)>,
    next: u64,
}

#[derive(Debug)]
struct Kept<H, V> {
    had: Had<V>,
    holder: H,
    order: u64,
}

impl<V> Clone for Had<V> {
    fn clone(&self) -> Self {
        Self { answer: Arc::clone(&self.answer), ..*self }
    }
}

impl<H: Clone + Ord + Hash, K: Clone + Eq + Hash, V> Recent<H, K, V> {
    /// Room for `most` answers, of which none is of use after `useful_for`.
    #[must_use]
    pub fn new(most: usize, useful_for: Duration) -> Self {
        let state = State {
            answers: HashMap::new(),
            in_order: BTreeMap::new(),
            of_holders: HashMap::new(),
            sizes: BTreeSet::new(),
            next: 0,
        };
        Self { most, useful_for, state: Mutex::new(state) }
    }

    /// What was answered last, however old.
    #[must_use]
    pub fn get(&self, question: &K) -> Option<Had<V>> {
        self.lock().answers.get(question).map(|kept| kept.had.clone())
    }

    /// Keeps an answer in the place of an older one. One that is older than what is there is not kept.
    pub fn keep(&self, holder: H, question: K, had: Had<V>) {
        let mut state = self.lock();
        if state.answers.get(&question).is_some_and(|kept| kept.had.at > had.at) {
            return;
        }
        state.remove(&question);
        while state.answers.len() >= self.most {
            if !state.make_room(had.at, self.useful_for) {
                return;
            }
        }
        state.insert(holder, question, had);
    }

    /// Forgets an answer.
    pub fn forget(&self, question: &K) {
        self.lock().remove(question);
    }

    /// Forgets all.
    pub fn clear(&self) {
        let mut state = self.lock();
        state.answers.clear();
        state.in_order.clear();
        state.of_holders.clear();
        state.sizes.clear();
    }

    /// How many are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().answers.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, State<H, K, V>> {
        // Each change is made in one go.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<H: Clone + Ord + Hash, K: Clone + Eq + Hash, V> State<H, K, V> {
    fn insert(&mut self, holder: H, question: K, had: Had<V>) {
        let order = self.next;
        self.next += 1;
        self.in_order.insert(order, question.clone());
        self.resize(&holder, |own| own.insert(order));
        self.answers.insert(question, Kept { had, holder, order });
    }

    fn remove(&mut self, question: &K) {
        let Some(kept) = self.answers.remove(question) else { return };
        self.in_order.remove(&kept.order);
        self.resize(&kept.holder, |own| own.remove(&kept.order));
    }

    fn resize(&mut self, holder: &H, change: impl FnOnce(&mut BTreeSet<u64>) -> bool) {
        let own = self.of_holders.entry(holder.clone()).or_default();
        self.sizes.remove(&(own.len(), holder.clone()));
        change(own);
        if own.is_empty() {
            self.of_holders.remove(holder);
        } else {
            self.sizes.insert((own.len(), holder.clone()));
        }
    }

    /// Removes the oldest of all, if it is of no use any more, or the oldest of who has most; answers whether there was
    /// one.
    fn make_room(&mut self, now: Instant, useful_for: Duration) -> bool {
        let oldest = self.in_order.first_key_value().map(|(_, question)| question.clone());
        let is_useless = |question: &K| {
            self.answers.get(question).is_some_and(|kept| now.saturating_duration_since(kept.had.at) > useful_for)
        };
        let first = oldest.filter(is_useless).or_else(|| {
            let (_, largest) = self.sizes.last()?;
            self.in_order.get(self.of_holders.get(largest)?.first()?).cloned()
        });
        let Some(question) = first else { return false };
        self.remove(&question);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const USEFUL: Duration = Duration::from_secs(5);

    fn had(at: Instant, answer: u32) -> Had<u32> {
        Had { answer: Arc::new(answer), at, change: 0 }
    }

    #[test]
    fn a_flood_of_one_holder_takes_nothing_from_others() {
        let (recent, now) = (Recent::new(8, USEFUL), Instant::now());
        recent.keep("small", 0, had(now, 0));
        for question in 1..100 {
            recent.keep("flood", question, had(now, question));
        }
        assert_eq!(recent.len(), 8);
        assert!(recent.get(&0).is_some() && recent.get(&99).is_some() && recent.get(&1).is_none());
    }

    #[test]
    fn what_is_too_old_makes_room_before_what_is_of_use() {
        let (recent, now) = (Recent::new(4, USEFUL), Instant::now());
        recent.keep("gone", 0, had(now, 0));
        recent.keep("gone", 1, had(now, 0));
        let later = now + USEFUL + Duration::from_secs(1);
        for question in 2..6 {
            recent.keep("busy", question, had(later, 0));
        }
        assert!((2..6).all(|question| recent.get(&question).is_some()));
    }

    #[test]
    fn an_older_answer_never_takes_the_place_of_a_newer_one() {
        let (recent, now) = (Recent::new(4, USEFUL), Instant::now());
        recent.keep("a", 1, had(now + Duration::from_millis(1), 2));
        recent.keep("a", 1, had(now, 1));
        assert_eq!(*recent.get(&1).unwrap().answer, 2);
        recent.keep("b", 1, had(now + Duration::from_millis(2), 3));
        assert_eq!((recent.len(), *recent.get(&1).unwrap().answer), (1, 3));
        recent.forget(&1);
        assert!(recent.is_empty());
    }

    proptest! {
        #[test]
        fn its_books_always_balance(acts in prop::collection::vec((0..4_u8, 0..12_u32, 0..10_u64, 0..20_u8), 0..200)) {
            let (recent, start) = (Recent::new(6, USEFUL), Instant::now());
            for (holder, question, seconds, act) in acts {
                match act {
                    0 => recent.clear(),
                    1 | 2 => recent.forget(&question),
                    _ => recent.keep(holder, question, had(start + Duration::from_secs(seconds), question)),
                }
                let state = recent.lock();
                prop_assert!(state.answers.len() <= 6);
                prop_assert_eq!(state.in_order.len(), state.answers.len());
                prop_assert_eq!(state.of_holders.values().map(BTreeSet::len).sum::<usize>(), state.answers.len());
                prop_assert_eq!(state.sizes.len(), state.of_holders.len());
                for (size, holder) in &state.sizes {
                    prop_assert_eq!(state.of_holders[holder].len(), *size);
                }
                for (order, question) in &state.in_order {
                    prop_assert_eq!(state.answers[question].order, *order);
                }
            }
        }
    }
}
