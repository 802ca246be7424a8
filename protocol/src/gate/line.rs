//! Standing in line at a gate, for what others give back soon.
//!
//! Who holds least is served first, and of those the one who came first; each key's own requests in their order. One
//! that waits for its own share holds up nobody; one that waits for room holds up all who hold more, but for those that
//! the reserve is for. Whoever goes away, or has waited for as long as it would, leaves the line; what it was given in
//! that moment is given back.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::MutexGuard;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Cause, Gate, Pass, Refusal, State};

/// Who waits, by key; a key that waits for nothing is not in here.
#[derive(Debug)]
pub(super) struct Line<K: Clone + Eq + Hash> {
    waiters: HashMap<K, VecDeque<Waiter<K>>>,
    next_ticket: u64,
}

#[derive(Debug)]
struct Waiter<K: Clone + Eq + Hash> {
    ticket: u64,
    amount: u64,
    served: oneshot::Sender<Pass<K>>,
}

/// A place in the line; left when dropped.
struct Place<'a, K: Clone + Eq + Hash> {
    gate: &'a Gate<K>,
    key: &'a K,
    ticket: u64,
}

impl<K: Clone + Eq + Hash> Gate<K> {
    /// Waits for `amount` until the pass can be had, at most for `patience`. Dropping the wait leaves the line.
    ///
    /// # Errors
    /// [`Refusal`] at once where `key` could not hold as much even alone; else when `patience` is over.
    pub async fn wait(&self, key: &K, amount: u64, patience: Duration) -> Result<Pass<K>, Refusal> {
        let (place, served) = self.stand_in_line(key, amount)?;
        if let Ok(Ok(pass)) = tokio::time::timeout(patience, served).await {
            return Ok(pass);
        }
        drop(place);
        // What it says is of this moment; if there is room just now, the better.
        self.enter(key, amount, tokio::time::Instant::now().into_std())
    }

    /// How many stand in line.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lock().line.waiters.values().map(VecDeque::len).sum()
    }

    fn stand_in_line<'a>(
        &'a self,
        key: &'a K,
        amount: u64,
    ) -> Result<(Place<'a, K>, oneshot::Receiver<Pass<K>>), Refusal> {
        let mut state = self.lock();
        if !self.rules.could_hold(amount, self.rules.most) {
            self.rules.check(amount, 0, 0, self.rules.most)?;
        }
        let (served, serving) = oneshot::channel();
        let ticket = state.line.next_ticket;
        state.line.next_ticket += 1;
        state.line.waiters.entry(key.clone()).or_default().push_back(Waiter { ticket, amount, served });
        let place = Place { gate: self, key, ticket };
        self.serve_line(state);
        Ok((place, serving))
    }

    /// Serves whom it can. What it cannot hand over, since nobody takes it any more, it serves to the next.
    pub(super) fn serve_line(&self, mut state: MutexGuard<'_, State<K>>) {
        if state.line.waiters.is_empty() {
            return;
        }
        let mut passes = Vec::new();
        while let Some((key, amount, served)) = state.serve_next(self) {
            passes.push((served, Pass { gate: self.clone(), key, amount, most: self.rules.most }));
        }
        // A pass that nobody takes locks the gate as it is dropped.
        drop(state);
        for (served, pass) in passes {
            drop(served.send(pass));
        }
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    /// Takes for the next in line whose turn has come.
    fn serve_next(&mut self, gate: &Gate<K>) -> Option<(K, u64, oneshot::Sender<Pass<K>>)> {
        let held = |key: &K| self.held.get(key).copied().unwrap_or_default();
        let first_of = |(key, queue): (&K, &VecDeque<Waiter<K>>)| {
            let first = queue.front()?;
            Some((held(key), first.ticket, first.amount, key.clone()))
        };
        let mut in_order: Vec<_> = self.line.waiters.iter().filter_map(first_of).collect();
        in_order.sort_unstable_by_key(|(held, ticket, ..)| (*held, *ticket));
        let mut is_full = false;
        for (held, _, amount, key) in in_order {
            if is_full && held.saturating_add(amount) > gate.rules.small {
                continue;
            }
            match self.try_take(&gate.rules, &key, amount, gate.rules.most) {
                Ok(()) => {
                    let served = self.line.remove_first(&key)?;
                    return Some((key, amount, served));
                }
                Err(refusal) => is_full |= refusal.cause == Cause::Full,
            }
        }
        None
    }
}

impl<K: Clone + Eq + Hash> Line<K> {
    /// Who waits.
    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.waiters.keys()
    }

    fn remove_first(&mut self, key: &K) -> Option<oneshot::Sender<Pass<K>>> {
        let queue = self.waiters.get_mut(key)?;
        let waiter = queue.pop_front();
        if queue.is_empty() {
            self.waiters.remove(key);
        }
        waiter.map(|waiter| waiter.served)
    }

    fn remove(&mut self, key: &K, ticket: u64) {
        let Some(queue) = self.waiters.get_mut(key) else { return };
        queue.retain(|waiter| waiter.ticket != ticket);
        if queue.is_empty() {
            self.waiters.remove(key);
        }
    }
}

impl<K: Clone + Eq + Hash> Default for Line<K> {
    fn default() -> Self {
        Self { waiters: HashMap::new(), next_ticket: 0 }
    }
}

impl<K: Clone + Eq + Hash> Drop for Place<'_, K> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.line.remove(self.key, self.ticket);
        // Shares may be larger without it.
        self.gate.serve_line(state);
    }
}
