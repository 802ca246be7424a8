//! A gate: something that is held and given back, shared between holders so that none can shut the others out.
//!
//! A gate either refuses ([`Gate::enter`]) who is not let in, who then comes again, or lets it stand in line
//! ([`Gate::wait`]). A refused holder counts as waiting for a little while, one in line as long as it stands there, and
//! while somebody waits, nobody else may take more than a share by its [`Weight`], which is even where all weigh 1. A part of the whole, the reserve, is kept for
//! those who hold next to nothing, so that a single small request is let in whatever others hold. What is stored and
//! not given back for long follows the same rules without waiting ([`Rules::check`]). See docs/limits.md, which lists
//! the gates.

mod line;
mod rules;

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use self::line::Line;
pub use self::rules::{Cause, Refusal, Rules, Terms, Weight};

/// How long a refused holder counts as waiting: long enough to come again as `Retry-After` asks.
const PATIENCE: Duration = Duration::from_secs(3);
/// Most holders that count as waiting at a time. Past it shares bind by those that do.
const MAX_WAITING: usize = 1024;

/// A gate between holders that are told apart by `K`. Clones are the same gate.
#[derive(Debug)]
pub struct Gate<K: Clone + Eq + Hash> {
    rules: Rules,
    state: Arc<Mutex<State<K>>>,
}

#[derive(Debug)]
struct State<K: Clone + Eq + Hash> {
    used: u64,
    held: HashMap<K, Held>,
    /// Who was refused, when last, and with which weight.
    waiting: HashMap<K, (Instant, Weight)>,
    /// Who stands in line.
    line: Line<K, oneshot::Sender<Pass<K>>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Held {
    amount: u64,
    /// With which it came last.
    weight: Weight,
}

impl<K: Clone + Eq + Hash> Gate<K> {
    /// An empty gate.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        let state = State { used: 0, held: HashMap::new(), waiting: HashMap::new(), line: Line::default() };
        Self { rules, state: Arc::new(Mutex::new(state)) }
    }

    /// Lets `key` in with `amount`, until the pass is dropped.
    ///
    /// # Errors
    /// [`Refusal`]; `key` then counts as waiting for a while.
    pub fn enter(&self, key: &K, amount: u64, now: Instant) -> Result<Pass<K>, Refusal> {
        self.enter_with_weight(key, amount, Weight::USUAL, now)
    }

    /// The same for a holder whose part of what is shared out is another than the usual one.
    ///
    /// # Errors
    /// As [`enter`](Self::enter).
    pub fn enter_with_weight(&self, key: &K, amount: u64, weight: Weight, now: Instant) -> Result<Pass<K>, Refusal> {
        self.pass(key, Terms { amount, weight, most: self.rules.most }, now)
    }

    /// The same for a holder that has terms of its own.
    ///
    /// # Errors
    /// As [`enter`](Self::enter).
    pub fn enter_on(&self, key: &K, terms: Terms, now: Instant) -> Result<Pass<K>, Refusal> {
        self.pass(key, terms, now)
    }

    /// The same where this holder may have another number at most than others.
    ///
    /// # Errors
    /// As [`enter`](Self::enter).
    pub fn enter_up_to(&self, key: &K, amount: u64, most: u64, now: Instant) -> Result<Pass<K>, Refusal> {
        self.pass(key, Terms { amount, weight: Weight::USUAL, most }, now)
    }

    /// Waits for `amount` until the pass can be had, at most for `patience`. Dropping the wait leaves the line.
    ///
    /// Who holds least for its weight is served first, and of those the one who came first. One that waits for its own share holds up
    /// nobody; one that waits for room holds up all who hold more, but for those that the reserve is for.
    ///
    /// # Errors
    /// [`Refusal`] at once where `key` could not hold as much even alone; else when `patience` is over.
    pub async fn wait(&self, key: &K, amount: u64, patience: Duration) -> Result<Pass<K>, Refusal> {
        self.wait_with_weight(key, amount, Weight::USUAL, patience).await
    }

    /// The same for a holder whose part of what is shared out is another than the usual one.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub async fn wait_with_weight(
        &self,
        key: &K,
        amount: u64,
        weight: Weight,
        patience: Duration,
    ) -> Result<Pass<K>, Refusal> {
        self.wait_on(key, Terms { amount, weight, most: self.rules.most }, patience).await
    }

    /// The same for a holder that has terms of its own.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub async fn wait_on(&self, key: &K, terms: Terms, patience: Duration) -> Result<Pass<K>, Refusal> {
        let (place, served) = self.stand_in_line(key, terms)?;
        if let Ok(Ok(pass)) = tokio::time::timeout(patience, served).await {
            return Ok(pass);
        }
        drop(place);
        // What it says is of this moment; if there is room just now, the better.
        self.pass(key, terms, tokio::time::Instant::now().into_std())
    }

    /// How many stand in line.
    #[must_use]
    pub fn num_waiting(&self) -> usize {
        self.lock().line.len()
    }

    /// Lets `key` in with what it was let in with before and comes back: the others are refused rather than this.
    #[must_use]
    pub fn enter_again(&self, key: &K, amount: u64) -> Pass<K> {
        let mut state = self.lock();
        let weight = state.held.get(key).map_or(Weight::USUAL, |held| held.weight);
        let terms = Terms { amount, weight, most: self.rules.most };
        state.add(key, terms);
        Pass { gate: self.clone(), key: key.clone(), terms }
    }

    /// What all hold.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.lock().used
    }

    /// What `key` holds.
    #[must_use]
    pub fn held(&self, key: &K) -> u64 {
        self.lock().held_by(key)
    }

    fn pass(&self, key: &K, terms: Terms, now: Instant) -> Result<Pass<K>, Refusal> {
        self.take(key, terms, now)?;
        Ok(Pass { gate: self.clone(), key: key.clone(), terms })
    }

    fn take(&self, key: &K, terms: Terms, now: Instant) -> Result<(), Refusal> {
        let mut state = self.lock();
        state.forget_refusals_before(now);
        state.try_take(&self.rules, key, terms).inspect_err(|refusal| {
            // One who asks for more than it may ever have is not waiting for others.
            if self.rules.could_hold(refusal.held.saturating_add(terms.amount), terms.most) {
                state.remember_refusal(key, terms.weight, now);
            }
        })
    }

    fn give_back(&self, key: &K, amount: u64) {
        let mut state = self.lock();
        state.give_back(key, amount);
        self.serve_line(state);
    }

    fn stand_in_line<'a>(
        &'a self,
        key: &'a K,
        terms: Terms,
    ) -> Result<(Place<'a, K>, oneshot::Receiver<Pass<K>>), Refusal> {
        let mut state = self.lock();
        if !self.rules.could_hold(terms.amount, terms.most) {
            self.rules.check(terms.amount, 0, 0, terms.most)?;
        }
        let (served, serving) = oneshot::channel();
        let ticket = state.line.push(key, terms, served);
        self.serve_line(state);
        Ok((Place { gate: self, key, ticket }, serving))
    }

    /// Serves whom it can. What it cannot hand over, since nobody takes it any more, it serves to the next.
    fn serve_line(&self, mut state: MutexGuard<'_, State<K>>) {
        let mut passes = Vec::new();
        while let Some((key, terms, served)) = state.serve_next(&self.rules) {
            passes.push((served, Pass { gate: self.clone(), key, terms }));
        }
        // A pass that nobody takes locks the gate as it is dropped.
        drop(state);
        for (served, pass) in passes {
            drop(served.send(pass));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        // Each change is made in one go, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash> Clone for Gate<K> {
    fn clone(&self) -> Self {
        Self { rules: self.rules, state: Arc::clone(&self.state) }
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    fn held_by(&self, key: &K) -> u64 {
        self.held.get(key).copied().unwrap_or_default().amount
    }

    fn try_take(&mut self, rules: &Rules, key: &K, terms: Terms) -> Result<(), Refusal> {
        let held = self.held_by(key);
        let held_then = held.saturating_add(terms.amount);
        let share = self.share(key, terms.weight, rules, held_then).min(terms.most);
        rules.check(terms.amount, held, self.used, share)?;
        self.add(key, terms);
        self.waiting.remove(key);
        Ok(())
    }

    /// Takes for the next in line whose turn has come.
    fn serve_next(&mut self, rules: &Rules) -> Option<(K, Terms, oneshot::Sender<Pass<K>>)> {
        let mut is_full = false;
        let in_order = self.line.in_order(|key| self.held_by(key));
        for first in in_order {
            if is_full && first.held.saturating_add(first.terms.amount) > rules.small {
                continue;
            }
            match self.try_take(rules, &first.key, first.terms) {
                Ok(()) => {
                    let served = self.line.remove_first(&first.key)?;
                    return Some((first.key, first.terms, served));
                }
                Err(refusal) => is_full |= refusal.cause == Cause::Full,
            }
        }
        None
    }

    fn add(&mut self, key: &K, Terms { amount, weight, .. }: Terms) {
        self.used += amount;
        if amount > 0 {
            let held = self.held.entry(key.clone()).or_default();
            *held = Held { amount: held.amount + amount, weight };
        }
    }

    fn give_back(&mut self, key: &K, amount: u64) {
        self.used -= amount;
        if let Some(held) = self.held.get_mut(key) {
            held.amount -= amount;
            if held.amount == 0 {
                self.held.remove(key);
            }
        }
    }

    /// Most that `key` may hold, which would hold `held` then: all while nobody else waits, its part by weight of those who hold
    /// or wait while somebody does.
    fn share(&self, key: &K, weight: Weight, rules: &Rules, held: u64) -> u64 {
        let refused = self.waiting.iter().map(|(other, (_, weight))| (other, *weight));
        let mut others: HashMap<_, _> = refused.chain(self.line.keys()).filter(|(other, _)| *other != key).collect();
        if others.is_empty() {
            return rules.room(held);
        }
        for (other, held) in self.held.iter().filter(|(other, _)| *other != key) {
            others.entry(other).or_insert(held.weight);
        }
        rules.part(held, weight, others.into_values())
    }

    /// One entry for each holder, however often it comes: one that is refused all the time hides nobody.
    fn remember_refusal(&mut self, key: &K, weight: Weight, now: Instant) {
        if self.waiting.len() < MAX_WAITING || self.waiting.contains_key(key) {
            self.waiting.insert(key.clone(), (now, weight));
        }
    }

    fn forget_refusals_before(&mut self, now: Instant) {
        self.waiting.retain(|_, (at, _)| now.saturating_duration_since(*at) <= PATIENCE);
    }
}

/// What a holder has; it is given back when the pass is dropped.
#[derive(Debug)]
pub struct Pass<K: Clone + Eq + Hash> {
    gate: Gate<K>,
    key: K,
    terms: Terms,
}

impl<K: Clone + Eq + Hash> Pass<K> {
    /// Takes `more` into the same pass.
    ///
    /// # Errors
    /// [`Refusal`]; what the pass has it keeps.
    pub fn grow(&mut self, more: u64, now: Instant) -> Result<(), Refusal> {
        self.gate.take(&self.key, Terms { amount: more, ..self.terms }, now)?;
        self.terms.amount += more;
        Ok(())
    }

    /// What it holds.
    #[must_use]
    pub fn amount(&self) -> u64 {
        self.terms.amount
    }
}

impl<K: Clone + Eq + Hash> Drop for Pass<K> {
    fn drop(&mut self) {
        self.gate.give_back(&self.key, self.terms.amount);
    }
}

/// A place in the line; left when dropped.
struct Place<'a, K: Clone + Eq + Hash> {
    gate: &'a Gate<K>,
    key: &'a K,
    ticket: u64,
}

impl<K: Clone + Eq + Hash> Drop for Place<'_, K> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.line.remove(self.key, self.ticket);
        // Shares may be larger without it.
        self.gate.serve_line(state);
    }
}

#[cfg(test)]
mod tests;
