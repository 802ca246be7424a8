//! A constraint at work on one answer.

use llguidance::Matcher;
use llguidance::toktrie::SimpleVob;
use souk_protocol::TokenId;

use super::ConstraintError;

/// Tokens of a trial run: dead ends and grammars whose steps explode show within a few.
const TRIAL_TOKENS: usize = 8;

/// The state of a grammar within one answer. Two constraints share nothing, so one answer's work never shows in another's.
pub struct Constraint {
    matcher: Matcher,
    /// The set that was returned last, a bit for each token.
    allowed: SimpleVob,
    eos_tokens: Vec<TokenId>,
}

impl Constraint {
    /// A fresh answer under `grammar`.
    pub(super) fn new(grammar: &Matcher, eos_tokens: &[TokenId]) -> Self {
        Self { matcher: grammar.deep_clone(), allowed: SimpleVob::new(), eos_tokens: eos_tokens.to_vec() }
    }

    /// The tokens that may come next, as a bitmask: bit `id % 32` of word `id / 32`. Tokens beyond its end are not allowed.
    /// The model's end-of-answer tokens are allowed exactly where the answer may end; at least one token is allowed. The
    /// same answer has the same masks everywhere.
    ///
    /// # Errors
    /// [`ConstraintError::TooComplex`] if the work of one step goes beyond its limit, [`ConstraintError::NoText`] at a dead
    /// end. The constraint is of no more use then.
    pub fn allowed(&mut self) -> Result<&[u32], ConstraintError> {
        self.allowed = match self.matcher.compute_mask_or_eos() {
            Ok(allowed) => allowed,
            Err(error) => return Err(self.error(&error)),
        };
        // A grammar may name these tokens itself, but only an answer's end may say them.
        if !self.may_end() {
            for &eos in &self.eos_tokens {
                self.allowed.disallow_token(eos);
            }
        }
        if self.allowed.is_zero() { Err(ConstraintError::NoText) } else { Ok(self.allowed.as_slice()) }
    }

    /// Moves on by the token that was drawn.
    ///
    /// # Errors
    /// [`ConstraintError::NotAllowed`] if it may not come here; the constraint is of no more use then.
    pub fn accept(&mut self, token: TokenId) -> Result<(), ConstraintError> {
        if self.matcher.is_stopped() && !self.matcher.is_error() {
            // Complete: only an end may follow, and it changes nothing.
            return if self.eos_tokens.contains(&token) { Ok(()) } else { Err(ConstraintError::NotAllowed(token)) };
        }
        match self.matcher.try_consume_tokens(&[token]) {
            Ok(0) => Err(ConstraintError::NotAllowed(token)),
            Ok(_) => Ok(()),
            Err(error) => Err(self.error(&error)),
        }
    }

    /// Whether the answer meets the constraint and nothing but its end may follow.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.matcher.is_stopped() && !self.matcher.is_error()
    }

    /// Whether the answer may end here.
    #[must_use]
    pub fn may_end(&mut self) -> bool {
        self.is_complete() || self.matcher.is_accepting().unwrap_or(false)
    }

    /// Makes a few steps as an answer would. A grammar that fails here fails the request before it costs the batch a step.
    pub(super) fn try_out(mut self) -> Result<(), ConstraintError> {
        for _ in 0..TRIAL_TOKENS {
            self.allowed()?;
            let next = self.allowed.iter().find(|token| !self.eos_tokens.contains(token));
            match next {
                Some(token) => self.accept(token)?,
                None => break,
            }
        }
        Ok(())
    }

    fn error(&self, error: &impl std::fmt::Display) -> ConstraintError {
        ConstraintError::at_step(self.matcher.stop_reason(), &error.to_string())
    }
}
