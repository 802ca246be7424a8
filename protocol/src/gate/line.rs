//! Who stands in line at a gate, and who is first.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use super::rules::{Terms, Weight};

/// Who waits, by key, each with what serves it; a key that waits for nothing is not in here.
#[derive(Debug)]
pub(super) struct Line<K, T> {
    waiters: HashMap<K, VecDeque<Waiter<T>>>,
    next_ticket: u64,
}

#[derive(Debug)]
struct Waiter<T> {
    ticket: u64,
    terms: Terms,
    served: T,
}

/// The first of a key's own.
pub(super) struct First<K> {
    pub(super) key: K,
    /// What the key holds already.
    pub(super) held: u64,
    /// What it waits for.
    pub(super) terms: Terms,
    ticket: u64,
}

impl<K: Clone + Eq + Hash, T> Line<K, T> {
    /// Goes to the end; the ticket names the place.
    pub(super) fn push(&mut self, key: &K, terms: Terms, served: T) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiters.entry(key.clone()).or_default().push_back(Waiter { ticket, terms, served });
        ticket
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiters.values().map(VecDeque::len).sum()
    }

    /// Who waits, each with the weight of its first.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&K, Weight)> {
        self.waiters.iter().map(|(key, queue)| (key, queue.front().map_or(Weight::USUAL, |first| first.terms.weight)))
    }

    /// The first of each key: who holds least for its weight before the others, then who came first.
    pub(super) fn in_order(&self, held: impl Fn(&K) -> u64) -> Vec<First<K>> {
        let first_of = |(key, queue): (&K, &VecDeque<Waiter<T>>)| {
            let Waiter { ticket, terms, .. } = *queue.front()?;
            Some(First { key: key.clone(), held: held(key), terms, ticket })
        };
        let mut in_order: Vec<_> = self.waiters.iter().filter_map(first_of).collect();
        // As fractions, held by weight, without dividing.
        let crosswise =
            |one: &First<K>, other: &First<K>| u128::from(one.held) * u128::from(other.terms.weight.number());
        in_order.sort_unstable_by(|one, other| {
            crosswise(one, other).cmp(&crosswise(other, one)).then(one.ticket.cmp(&other.ticket))
        });
        in_order
    }

    pub(super) fn remove_first(&mut self, key: &K) -> Option<T> {
        let queue = self.waiters.get_mut(key)?;
        let waiter = queue.pop_front();
        if queue.is_empty() {
            self.waiters.remove(key);
        }
        waiter.map(|waiter| waiter.served)
    }

    pub(super) fn remove(&mut self, key: &K, ticket: u64) {
        let Some(queue) = self.waiters.get_mut(key) else { return };
        queue.retain(|waiter| waiter.ticket != ticket);
        if queue.is_empty() {
            self.waiters.remove(key);
        }
    }
}

impl<K, T> Default for Line<K, T> {
    fn default() -> Self {
        Self { waiters: HashMap::new(), next_ticket: 0 }
    }
}
