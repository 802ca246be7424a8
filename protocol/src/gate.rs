//! A gate: something that is held and given back, shared between holders so that none can shut the others out.
//!
//! Nobody waits inside a gate: who is not let in is refused and comes again. A refused holder counts as waiting for a
//! little while, and while somebody waits, nobody else may hold more than an even share. A part of the whole, the
//! reserve, is kept for those who hold next to nothing, so that a single small request is let in whatever others hold.
//! See docs/limits.md, which lists the gates.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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

/// How much there is, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// All that can be held.
    pub total: u64,
    /// What only those may take who hold no more than `small` with it.
    pub reserve: u64,
    /// What one small request needs.
    pub small: u64,
    /// Most that one holder may have, even if nobody waits.
    pub most: u64,
}

/// Why a holder was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was asked for.
    pub asked: u64,
    /// What the holder has.
    pub held: u64,
    /// Most that it may have now.
    pub share: u64,
    /// What all have.
    pub used: u64,
    /// All that can be had.
    pub total: u64,
    /// What stands in the way.
    pub cause: Cause,
}

/// What stands in the way of a holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The holder has its share, and others wait or it is the most that one may have.
    Share,
    /// All is taken but for the reserve.
    Full,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked, held, share, used, total, .. } = self;
        match self.cause {
            Cause::Share => write!(f, "you hold {held} of at most {share} and asked for {asked}"),
            Cause::Full => write!(f, "{used} of {total} are taken and you asked for {asked}"),
        }
    }
}

#[derive(Debug)]
struct State<K> {
    used: u64,
    held: HashMap<K, u64>,
    /// Who was refused, and when last.
    waiting: HashMap<K, Instant>,
}

impl<K: Clone + Eq + Hash> Gate<K> {
    /// An empty gate.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        let state = State { used: 0, held: HashMap::new(), waiting: HashMap::new() };
        Self { rules, state: Arc::new(Mutex::new(state)) }
    }

    /// Lets `key` in with `amount`, until the pass is dropped.
    ///
    /// # Errors
    /// [`Refusal`]; `key` then counts as waiting for a while.
    pub fn enter(&self, key: &K, amount: u64, now: Instant) -> Result<Pass<K>, Refusal> {
        self.enter_up_to(key, amount, self.rules.most, now)
    }

    /// The same where this holder may have another number at most than others.
    ///
    /// # Errors
    /// As [`enter`](Self::enter).
    pub fn enter_up_to(&self, key: &K, amount: u64, most: u64, now: Instant) -> Result<Pass<K>, Refusal> {
        self.take(key, amount, most, now)?;
        Ok(Pass { gate: self.clone(), key: key.clone(), amount, most })
    }

    /// What all hold.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.lock().used
    }

    /// What `key` holds.
    #[must_use]
    pub fn held(&self, key: &K) -> u64 {
        self.lock().held.get(key).copied().unwrap_or_default()
    }

    fn take(&self, key: &K, amount: u64, most: u64, now: Instant) -> Result<(), Refusal> {
        let mut state = self.lock();
        state.forget_refusals_before(now);
        let Rules { total, reserve, small, .. } = self.rules;
        let (used, held) = (state.used, state.held.get(key).copied().unwrap_or_default());
        let (used_then, held_then) = (used.saturating_add(amount), held.saturating_add(amount));
        let is_small = held_then <= small;
        let room = if is_small { total } else { total.saturating_sub(reserve) };
        let share = state.share(key, room, most).max(small.min(most));
        let cause = if held_then > share {
            Cause::Share
        } else if used_then > room {
            Cause::Full
        } else {
            state.used = used_then;
            *state.held.entry(key.clone()).or_default() = held_then;
            state.waiting.remove(key);
            return Ok(());
        };
        // One who asks for more than it may ever have is not waiting for others.
        if held_then <= most.min(room) {
            state.remember_refusal(key, now);
        }
        // A share that only mirrors that all is taken is told as such.
        let cause = if cause == Cause::Share && share >= room { Cause::Full } else { cause };
        Err(Refusal { asked: amount, held, share, used, total, cause })
    }

    fn give_back(&self, key: &K, amount: u64) {
        let mut state = self.lock();
        state.used -= amount;
        if let Some(held) = state.held.get_mut(key) {
            *held -= amount;
            if *held == 0 {
                state.held.remove(key);
            }
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
    /// Most that `key` may hold of `room`: all of it while nobody else waits, an even part while somebody does.
    fn share(&self, key: &K, room: u64, most: u64) -> u64 {
        if self.waiting.keys().all(|waiting| waiting == key) {
            return room.min(most);
        }
        let others_that_wait = self.waiting.keys().filter(|other| *other != key && !self.held.contains_key(*other));
        let others_that_hold = self.held.keys().filter(|other| *other != key);
        let parts = 1 + others_that_wait.count() + others_that_hold.count();
        (room / parts as u64).min(most)
    }

    /// One entry for each holder, however often it comes: one that is refused all the time hides nobody.
    fn remember_refusal(&mut self, key: &K, now: Instant) {
        if self.waiting.len() < MAX_WAITING || self.waiting.contains_key(key) {
            self.waiting.insert(key.clone(), now);
        }
    }

    fn forget_refusals_before(&mut self, now: Instant) {
        self.waiting.retain(|_, at| now.saturating_duration_since(*at) <= PATIENCE);
    }
}

/// What a holder has; it is given back when the pass is dropped.
#[derive(Debug)]
pub struct Pass<K: Clone + Eq + Hash> {
    gate: Gate<K>,
    key: K,
    amount: u64,
    most: u64,
}

impl<K: Clone + Eq + Hash> Pass<K> {
    /// Takes `more` into the same pass.
    ///
    /// # Errors
    /// [`Refusal`]; what the pass has it keeps.
    pub fn grow(&mut self, more: u64, now: Instant) -> Result<(), Refusal> {
        self.gate.take(&self.key, more, self.most, now)?;
        self.amount += more;
        Ok(())
    }

    /// What it holds.
    #[must_use]
    pub fn amount(&self) -> u64 {
        self.amount
    }
}

impl<K: Clone + Eq + Hash> Drop for Pass<K> {
    fn drop(&mut self) {
        self.gate.give_back(&self.key, self.amount);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: Rules = Rules { total: 64, reserve: 8, small: 1, most: 64 };

    fn fill(gate: &Gate<u8>, key: u8, now: Instant) -> Vec<Pass<u8>> {
        std::iter::from_fn(|| gate.enter(&key, 1, now).ok()).collect()
    }

    #[test]
    fn one_holder_alone_may_have_all_but_the_reserve() {
        let (gate, now) = (Gate::new(RULES), Instant::now());
        let passes = fill(&gate, 1, now);
        assert_eq!(passes.len(), 56);
        let refusal = gate.enter(&1, 1, now).unwrap_err();
        assert_eq!((refusal.cause, refusal.held, refusal.used, refusal.total), (Cause::Full, 56, 56, 64));
        drop(passes);
        assert_eq!((gate.used(), gate.held(&1)), (0, 0));
    }

    #[test]
    fn while_another_waits_nobody_takes_more_than_an_even_share() {
        let (gate, now) = (Gate::new(RULES), Instant::now());
        let mut greedy = fill(&gate, 1, now);
        let mut late = vec![gate.enter(&2, 1, now).unwrap()];
        assert_eq!(gate.enter(&2, 1, now).unwrap_err().cause, Cause::Full);
        // The one place that the second had of the reserve is made good first.
        greedy.pop();
        // What the first gives back goes to the second, until each has a half.
        for _ in 0..27 {
            greedy.pop();
            assert_eq!(gate.enter(&1, 1, now).unwrap_err().cause, Cause::Share);
            late.push(gate.enter(&2, 1, now).unwrap_or_else(|refusal| panic!("{refusal:?} at {}", gate.held(&2))));
            gate.enter(&2, 1, now).unwrap_err();
        }
        assert_eq!(gate.held(&2), 28);
        // Once nobody has asked for a while, the share binds no more.
        let later = now + PATIENCE + Duration::from_millis(1);
        drop(late);
        assert_eq!(greedy.len() + fill(&gate, 1, later).len(), 56);
    }

    #[test]
    fn one_that_is_refused_all_the_time_hides_nobody_who_waits() {
        let (gate, now) = (Gate::new(RULES), Instant::now());
        let mut greedy = fill(&gate, 1, now);
        for _ in 0..2 * MAX_WAITING {
            gate.enter(&1, 1, now).unwrap_err();
        }
        gate.enter(&2, 2, now).unwrap_err();
        greedy.truncate(40);
        assert_eq!(gate.enter(&1, 1, now).unwrap_err().cause, Cause::Share);
        // A refusal is remembered from its last time on.
        let later = now + PATIENCE;
        gate.enter(&2, 40, later).unwrap_err();
        assert_eq!(gate.enter(&1, 1, later + PATIENCE).unwrap_err().cause, Cause::Share);
    }

    #[test]
    fn a_pass_grows_within_the_share_and_gives_all_of_it_back() {
        let (gate, now) = (Gate::new(Rules { most: 10, ..RULES }), Instant::now());
        let mut pass = gate.enter(&1, 4, now).unwrap();
        pass.grow(6, now).unwrap();
        let refusal = pass.grow(1, now).unwrap_err();
        assert_eq!((refusal.cause, refusal.share), (Cause::Share, 10));
        assert_eq!(refusal.to_string(), "you hold 10 of at most 10 and asked for 1");
        assert_eq!(pass.amount(), 10);
        drop(pass);
        assert_eq!(gate.used(), 0);
    }

    proptest! {
        /// A step: who, how much, whether it gives back instead, and milliseconds until then.
        #[test]
        fn a_newcomers_small_request_is_let_in_whatever_others_do(
            steps in prop::collection::vec((0u8..7, 1u64..20, any::<bool>(), 0u64..5000), 1..200),
            total in 16u64..200,
        ) {
            // Seven greedy holders of one each in the reserve leave room for an eighth.
            let gate = Gate::new(Rules { total, reserve: 8, small: 1, most: total });
            let mut now = Instant::now();
            let mut passes: Vec<(u8, Pass<u8>)> = Vec::new();
            for (who, amount, gives_back, wait) in steps {
                now += Duration::from_millis(wait);
                if gives_back {
                    if let Some(index) = passes.iter().position(|(holder, _)| *holder == who) {
                        passes.swap_remove(index);
                    }
                } else {
                    // As much as it can get, the way a flood asks.
                    for amount in [amount, 1] {
                        passes.extend(gate.enter(&who, amount, now).ok().map(|pass| (who, pass)));
                    }
                }
                let sum: u64 = passes.iter().map(|(_, pass)| pass.amount()).sum();
                prop_assert_eq!(gate.used(), sum);
                prop_assert!(sum <= total);
                let newcomer = gate.enter(&99, 1, now);
                prop_assert!(newcomer.is_ok(), "{:?}", newcomer);
            }
            drop(passes);
            prop_assert_eq!(gate.used(), 0);
        }
    }
}
