//! A gate: something that is held and given back, shared between holders so that none can shut the others out.
//!
//! A gate either refuses ([`Gate::enter`]) who is not let in, who then comes again, or lets it stand in line
//! ([`Gate::wait`]). A refused holder counts as waiting for a little while, one in line as long as it stands there, and
//! while somebody waits, nobody else may take more than an even share. A part of the whole, the reserve, is kept for
//! those who hold next to nothing, so that a single small request is let in whatever others hold. What is stored and
//! not given back for long follows the same rules without waiting ([`Rules::check`]). See docs/limits.md, which lists
//! the gates.

mod line;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::line::Line;

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
struct State<K: Clone + Eq + Hash> {
    used: u64,
    held: HashMap<K, u64>,
    /// Who was refused, and when last.
    waiting: HashMap<K, Instant>,
    /// Who stands in line.
    line: Line<K>,
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

    /// Lets `key` in with what it was let in with before and comes back: the others are refused rather than this.
    #[must_use]
    pub fn enter_again(&self, key: &K, amount: u64) -> Pass<K> {
        self.lock().add(key, amount);
        Pass { gate: self.clone(), key: key.clone(), amount, most: self.rules.most }
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
        state.try_take(&self.rules, key, amount, most).inspect_err(|refusal| {
            // One who asks for more than it may ever have is not waiting for others.
            if self.rules.could_hold(refusal.held.saturating_add(amount), most) {
                state.remember_refusal(key, now);
            }
        })
    }

    fn give_back(&self, key: &K, amount: u64) {
        let mut state = self.lock();
        state.give_back(key, amount);
        self.serve_line(state);
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

impl Rules {
    /// An eighth of the total is kept for those who hold no more than `small`, at least 1 where there is more than 1;
    /// one holder may have `most`.
    #[must_use]
    pub fn with_an_eighth_kept(total: u64, small: u64, most: u64) -> Self {
        let reserve = if total > 1 { (total / 8).max(1) } else { 0 };
        Self { total, reserve, small, most }
    }

    /// Whether one who has `held` may have `asked` too while all have `used` and each may have `share`.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn check(&self, asked: u64, held: u64, used: u64, share: u64) -> Result<(), Refusal> {
        let (used_then, held_then) = (used.saturating_add(asked), held.saturating_add(asked));
        let room = self.room(held_then);
        let share = share.min(room).max(self.small.min(self.most));
        let cause = if held_then > share {
            // A share that only mirrors that all is taken is told as such.
            if share >= room { Cause::Full } else { Cause::Share }
        } else if used_then > room {
            Cause::Full
        } else {
            return Ok(());
        };
        Err(Refusal { asked, held, share, used, total: self.total, cause })
    }

    /// Most that each of so many may hold, of those who hold or wait, if one of them would then hold `held`.
    #[must_use]
    pub fn even_part(&self, held: u64, num_parts: usize) -> u64 {
        self.room(held) / num_parts.max(1) as u64
    }

    /// What there is for one who would hold so much.
    #[must_use]
    pub const fn room(&self, held: u64) -> u64 {
        if held <= self.small { self.total } else { self.total.saturating_sub(self.reserve) }
    }

    /// Whether one who may have `most` could hold so much if nobody else held anything.
    fn could_hold(&self, held: u64, most: u64) -> bool {
        held <= most.min(self.room(held))
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    fn try_take(&mut self, rules: &Rules, key: &K, amount: u64, most: u64) -> Result<(), Refusal> {
        let held = self.held.get(key).copied().unwrap_or_default();
        let held_then = held.saturating_add(amount);
        rules.check(amount, held, self.used, self.share(key, rules, held_then).min(most))?;
        self.add(key, amount);
        self.waiting.remove(key);
        Ok(())
    }

    fn add(&mut self, key: &K, amount: u64) {
        self.used += amount;
        if amount > 0 {
            *self.held.entry(key.clone()).or_default() += amount;
        }
    }

    fn give_back(&mut self, key: &K, amount: u64) {
        self.used -= amount;
        if let Some(held) = self.held.get_mut(key) {
            *held -= amount;
            if *held == 0 {
                self.held.remove(key);
            }
        }
    }

    /// Most that `key` may hold, which would hold `held` then: all while nobody else waits, an even part while somebody
    /// does.
    fn share(&self, key: &K, rules: &Rules, held: u64) -> u64 {
        let waiting: HashSet<_> = self.waiting.keys().chain(self.line.keys()).filter(|other| *other != key).collect();
        if waiting.is_empty() {
            return rules.room(held);
        }
        let others_that_hold = self.held.keys().filter(|other| *other != key && !waiting.contains(other)).count();
        rules.even_part(held, 1 + waiting.len() + others_that_hold)
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
mod tests;
