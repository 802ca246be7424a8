//! A constraint at work on one answer.

use llguidance::toktrie::SimpleVob;
use souk_protocol::gate::{Gate, Pass};
use souk_protocol::{TenantId, TokenId};

use super::cache::Compiled;
use super::error::ConstraintError;
use super::machine::Machine;
use super::wanted::Wanted;

/// Tokens of a trial run: dead ends and grammars whose steps explode show within a few.
const TRIAL_TOKENS: usize = 8;

/// The state of a grammar within one answer. Two constraints share nothing, so one answer's work never shows in
/// another's.
pub struct Constraint {
    machine: Machine,
    /// The set that was returned last, a bit for each token.
    allowed: SimpleVob,
    /// Whether that is the set of the place where the answer stands now.
    is_current: bool,
    eos_tokens: Vec<TokenId>,
    /// Most memory that it may take.
    max_bytes: usize,
    /// That memory; none for a trial run, which is part of compiling.
    _held: Option<Held>,
}

/// What an answer holds of the memory for all that are under way.
pub(super) struct Held {
    gate: Gate<TenantId>,
    pass: Option<Pass<TenantId>>,
}

impl Held {
    pub(super) fn new(gate: Gate<TenantId>, pass: Pass<TenantId>) -> Self {
        let held = Self { gate, pass: Some(pass) };
        held.tell();
        held
    }

    fn tell(&self) {
        metrics::gauge!("souk_constraint_live_bytes").set(self.gate.used() as f64);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.pass = None;
        self.tell();
    }
}

impl Constraint {
    /// A fresh answer under `compiled`, in the memory that is `held` for it.
    pub(super) fn new(compiled: &Compiled, eos_tokens: &[TokenId], held: Option<Held>) -> Self {
        let (allowed, eos_tokens) = (SimpleVob::new(), eos_tokens.to_vec());
        let (machine, max_bytes) = (compiled.machine.copied(), compiled.answer_bytes());
        Self { machine, allowed, is_current: false, eos_tokens, max_bytes, _held: held }
    }

    /// The tokens that may come next, as a bitmask: bit `id % 32` of word `id / 32`. Tokens beyond its end are not
    /// allowed. The model's end-of-answer tokens are allowed exactly where the answer may end; at least one token is
    /// allowed. The same answer has the same masks everywhere.
    ///
    /// # Errors
    /// [`ConstraintError::TooComplex`] if the work of one step, or the memory of the answer, goes beyond its limit,
    /// [`ConstraintError::NoText`] at a dead end. The constraint is of no more use then.
    pub fn allowed(&mut self) -> Result<&[u32], ConstraintError> {
        self.allowed = match self.machine.mask() {
            Ok(allowed) => allowed,
            Err(error) => return Err(self.error(&error)),
        };
        self.check_size()?;
        // A grammar may name these tokens itself, but only an answer's end may say them.
        if !self.may_end() {
            for &eos in &self.eos_tokens {
                self.allowed.disallow_token(eos);
            }
        }
        self.is_current = true;
        if self.allowed.is_zero() { Err(ConstraintError::NoText) } else { Ok(self.allowed.as_slice()) }
    }

    /// Moves on by the token that was drawn.
    ///
    /// # Errors
    /// [`ConstraintError::NotAllowed`] if it may not come here; the constraint is of no more use then.
    pub fn accept(&mut self, token: TokenId) -> Result<(), ConstraintError> {
        if self.is_complete() {
            // Complete: only an end may follow, and it changes nothing.
            return if self.eos_tokens.contains(&token) { Ok(()) } else { Err(ConstraintError::NotAllowed(token)) };
        }
        let accepted = if std::mem::replace(&mut self.is_current, false) {
            // The set knows; asking the grammar would take as long as moving on.
            let is_allowed = (token as usize) < self.allowed.len() && self.allowed.is_allowed(token);
            if is_allowed { self.machine.consume(token).map(|()| true) } else { Ok(false) }
        } else {
            self.machine.try_consume(token)
        };
        match accepted {
            Ok(false) => Err(ConstraintError::NotAllowed(token)),
            Ok(true) => Ok(()),
            Err(error) => Err(self.error(&error)),
        }
    }

    /// Moves on by the beginning of an answer that another attempt has made. It takes as long as all its tokens did, so
    /// it has no place on the engine's thread.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept), at the first token that is refused.
    pub fn follow(&mut self, begun: &[TokenId]) -> Result<(), ConstraintError> {
        // The end of an answer is not part of what the grammar reads.
        begun.iter().try_for_each(|token| if self.eos_tokens.contains(token) { Ok(()) } else { self.accept(*token) })
    }

    /// Most memory that this answer may take.
    #[must_use]
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Whether the answer meets the constraint and nothing but its end may follow.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.machine.is_complete()
    }

    /// Whether the answer may end here.
    #[must_use]
    pub fn may_end(&mut self) -> bool {
        self.is_complete() || self.machine.is_accepting().unwrap_or(false)
    }

    /// Makes a few steps as an answer would. A grammar that fails here fails the request before it costs the batch a
    /// step.
    pub(super) fn try_out(mut self, wanted: &Wanted) -> Result<(), ConstraintError> {
        for _ in 0..TRIAL_TOKENS {
            wanted.check()?;
            self.allowed()?;
            let next = self.allowed.iter().find(|token| !self.eos_tokens.contains(token));
            match next {
                Some(token) => self.accept(token)?,
                None => break,
            }
        }
        Ok(())
    }

    /// Looked at where masks are made, which is what makes a lexer grow.
    fn check_size(&self) -> Result<(), ConstraintError> {
        let (limit, given) = (self.max_bytes, self.machine.size_bytes());
        if given <= limit {
            return Ok(());
        }
        Err(ConstraintError::TooComplex(format!("its answer takes {given} bytes of memory of at most {limit}")))
    }

    fn error(&self, error: &str) -> ConstraintError {
        ConstraintError::at_step(self.machine.stop_reason(), error)
    }
}
