//! A constraint at work on one answer.

use llguidance::Matcher;
use llguidance::toktrie::SimpleVob;
use souk_protocol::TokenId;

use super::error::ConstraintError;
use super::wanted::Wanted;

/// Tokens of a trial run: dead ends and grammars whose steps explode show within a few.
const TRIAL_TOKENS: usize = 8;

/// The state of a grammar within one answer. Two constraints share nothing, so one answer's work never shows in
/// another's.
pub struct Constraint {
    matcher: Matcher,
    /// The set that was returned last, a bit for each token.
    allowed: SimpleVob,
    /// Whether that is the set of the place where the answer stands now.
    is_current: bool,
    eos_tokens: Vec<TokenId>,
}

impl Constraint {
    /// A fresh answer under `grammar`.
    pub(super) fn new(grammar: &Matcher, eos_tokens: &[TokenId]) -> Self {
        let (allowed, eos_tokens) = (SimpleVob::new(), eos_tokens.to_vec());
        Self { matcher: grammar.deep_clone(), allowed, is_current: false, eos_tokens }
    }

    /// The tokens that may come next, as a bitmask: bit `id % 32` of word `id / 32`. Tokens beyond its end are not
    /// allowed. The model's end-of-answer tokens are allowed exactly where the answer may end; at least one token is
    /// allowed. The same answer has the same masks everywhere.
    ///
    /// # Errors
    /// [`ConstraintError::TooComplex`] if the work of one step goes beyond its limit, [`ConstraintError::NoText`] at a
    /// dead end. The constraint is of no more use then.
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
        self.is_current = true;
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
        let accepted = if std::mem::replace(&mut self.is_current, false) {
            // The set knows; asking the grammar would take as long as moving on.
            let is_allowed = (token as usize) < self.allowed.len() && self.allowed.is_allowed(token);
            if is_allowed { self.matcher.consume_token(token).map(|()| 1) } else { Ok(0) }
        } else {
            self.matcher.try_consume_tokens(&[token])
        };
        match accepted {
            Ok(0) => Err(ConstraintError::NotAllowed(token)),
            Ok(_) => Ok(()),
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

    fn error(&self, error: &impl std::fmt::Display) -> ConstraintError {
        ConstraintError::at_step(self.matcher.stop_reason(), &error.to_string())
    }
}
