//! Chooses the next token from a row of logits, and says how likely it was.
//!
//! Order: bias, repetition penalty, frequency and presence penalties, constraint, temperature, top-k, min-p, top-p,
//! draw. Logprobs are those of the unmodified distribution, also under a constraint. All ties go to the lower id. The
//! draw is a function of (seed, position) and the row alone, so a token does not depend on what else is in the batch,
//! and a continued answer equals the uninterrupted one.
//!
//! Parameters are followed whatever they are, since a job may come from a queue: [`Rule`] says what is meant by those
//! that no formula can use. From a finite row a token comes that the constraint allows, with logprobs that are finite.
//!
//! A row has as many entries as the vocabulary (49,152 and up), so it is read in few plain passes that the compiler
//! vectorises, nothing is sorted whole, and no buffer is allocated per row.

mod candidate;
mod draw;
mod likelihoods;
mod rule;
mod scan;

use std::collections::HashMap;

use souk_protocol::{GenerateJob, SamplingParams, TokenId, TokenLogprobs, TokenOut};

pub use self::candidate::BadRow;
use self::candidate::Candidate;
use self::draw::Truncation;
use self::likelihoods::Likelihoods;
use self::rule::{Rule, is_greedy};
use self::scan::Scan;

/// Buffers that are reused from row to row.
#[derive(Debug, Default)]
pub struct Sampler {
    scan: Scan,
    likelihoods: Likelihoods,
    candidates: Vec<Candidate>,
    /// Logits as they were before the request's own modifications.
    unmodified: Vec<(TokenId, f32)>,
}

/// What decides a choice beside the logits.
#[derive(Clone, Copy, Debug)]
pub struct ChoiceContext<'a> {
    /// Temperature, cuts, penalties, bias and seed, as the request has them.
    pub params: &'a SamplingParams,
    /// What the context contains; `None` if no penalty asks.
    pub counts: Option<&'a TokenCounts>,
    /// The tokens that a constraint allows, bit `id % 32` of word `id / 32`; none beyond its end. `None` allows all.
    pub allowed: Option<&'a [u32]>,
    /// The position in the context that the token will take.
    pub position: u32,
    /// How many alternatives to report; `None` reports no logprobs.
    pub num_top: Option<u8>,
}

/// How often tokens occur in a context.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenCounts {
    /// Every token of the context, with how often it was generated; 0 for those of the prompt alone.
    generated: HashMap<TokenId, u32>,
}

/// Logit of a token that a constraint does not allow; those that it allows are above.
const FORBIDDEN: f32 = f32::MIN;

impl Sampler {
    /// Chooses a token. Changes `logits` at the tokens that bias and penalties name, and at those that are not allowed.
    ///
    /// # Errors
    /// [`BadRow`] if there is nothing to choose from.
    pub fn choose(&mut self, logits: &mut [f32], context: ChoiceContext<'_>) -> Result<TokenOut, BadRow> {
        self.scan.read(logits)?;
        let unmodified = context.num_top.map(|num_top| self.top(logits, num_top));
        self.modify(logits, context.params, context.counts);
        if let Some(allowed) = context.allowed {
            forbid(logits, allowed);
        }
        if !self.unmodified.is_empty() || context.allowed.is_some() {
            self.scan.read(logits)?;
        }
        if context.allowed.is_some() && self.scan.max() == FORBIDDEN {
            return Err(BadRow::NothingAllowed);
        }
        let id = if is_greedy(context.params) {
            self.scan.argmax(logits)
        } else {
            let uniform = draw::uniform(context.params.seed, context.position);
            self.draw(logits, context, uniform)
        };
        let logit =
            self.unmodified.iter().find(|(changed, _)| *changed == id).map_or(logits[id as usize], |(_, was)| *was);
        let logprobs = unmodified.map(|(log_sum_exp, top)| TokenLogprobs { logprob: logprob(logit, log_sum_exp), top });
        Ok(TokenOut { id, logprobs })
    }

    /// The logprob of a token that is given, beside the likeliest ones.
    ///
    /// # Errors
    /// [`BadRow::NotFinite`] if the row holds NaN or infinity.
    pub fn score(&mut self, logits: &[f32], token: TokenId, num_top: u8) -> Result<TokenLogprobs, BadRow> {
        self.scan.read(logits)?;
        let (log_sum_exp, top) = self.top(logits, num_top);
        Ok(TokenLogprobs { logprob: logprob(logits[token as usize], log_sum_exp), top })
    }

    /// The logarithm of the sum of all exponentials, and the likeliest tokens with their logprobs. The row has been
    /// scanned.
    fn top(&mut self, logits: &[f32], num_top: u8) -> (f32, Vec<(TokenId, f32)>) {
        self.likelihoods.compute(&self.scan, logits, 1.0, None);
        // Stable, because the largest logit is taken out of the weights.
        let log_sum_exp = (f64::from(self.scan.max()) + self.likelihoods.total().ln()) as f32;
        if num_top == 0 {
            return (log_sum_exp, Vec::new());
        }
        self.scan.largest(logits, usize::from(num_top), &mut self.candidates);
        self.candidates.sort_unstable_by(Candidate::likelier_first);
        let top = self.candidates.iter().map(|candidate| (candidate.id, logprob(candidate.value, log_sum_exp)));
        (log_sum_exp, top.collect())
    }

    /// Applies bias and penalties, and remembers what was there before.
    fn modify(&mut self, logits: &mut [f32], params: &SamplingParams, counts: Option<&TokenCounts>) {
        self.unmodified.clear();
        for (id, bias) in &params.logit_bias {
            let Some(logit) = logits.get_mut(*id as usize) else { continue };
            self.unmodified.push((*id, *logit));
            *logit = within_range(*logit + bias, *logit);
        }
        for (id, generated) in counts.into_iter().flat_map(|counts| &counts.generated) {
            let Some(logit) = logits.get_mut(*id as usize) else { continue };
            // A biased token is listed already; the first entry is the one that is found.
            self.unmodified.push((*id, *logit));
            let penalty = params.repetition_penalty;
            *logit = within_range(if *logit > 0.0 { *logit / penalty } else { *logit * penalty }, *logit);
            if *generated > 0 {
                let taken_off = params.presence_penalty + params.frequency_penalty * *generated as f32;
                *logit = within_range(*logit - taken_off, *logit);
            }
        }
    }

    /// Draws from the distribution that temperature and truncation leave. The row has been scanned.
    fn draw(&mut self, logits: &[f32], context: ChoiceContext<'_>, uniform: f64) -> TokenId {
        let rule = Rule::new(context.params);
        let by_truncation = Truncation::new(&rule, logits.len()).last(&mut self.scan, logits, &mut self.candidates);
        let by_constraint = context.allowed.map(|_| Candidate { id: TokenId::MAX, value: FORBIDDEN.next_up() });
        let last = by_truncation.into_iter().chain(by_constraint).min_by(Candidate::likelier_first);
        self.likelihoods.compute(&self.scan, logits, rule.inverse_temperature(), last);
        if let Some(top_p) = rule.top_p {
            self.likelihoods.cut_to_nucleus(&self.scan, logits, rule.inverse_temperature(), f64::from(top_p));
        }
        self.likelihoods.draw(uniform)
    }
}

/// Whether all that a job wants of a row of logits is the largest: then the row need not be written at all.
#[must_use]
pub fn is_plain_greedy(job: &GenerateJob) -> bool {
    let params = &job.sampling;
    let reports_nothing = job.logprobs.is_none() && job.prompt_logprobs.is_none();
    let is_free = job.constraint.is_none() && params.logit_bias.is_empty() && has_no_penalty(params);
    is_greedy(params) && is_free && reports_nothing
}

fn has_no_penalty(params: &SamplingParams) -> bool {
    params.repetition_penalty == 1.0 && params.frequency_penalty == 0.0 && params.presence_penalty == 0.0
}

impl TokenCounts {
    /// Counts for a job, if its parameters ask for any.
    #[must_use]
    pub fn for_job(params: &SamplingParams, prompt: &[TokenId], generated: &[TokenId]) -> Option<Self> {
        if has_no_penalty(params) {
            return None;
        }
        let mut counts = Self { generated: prompt.iter().map(|id| (*id, 0)).collect() };
        generated.iter().for_each(|id| counts.push(*id));
        Some(counts)
    }

    /// Counts a generated token.
    pub fn push(&mut self, id: TokenId) {
        *self.generated.entry(id).or_default() += 1;
    }
}

/// A modified logit: at the end of the range if it lies beyond, and as it `was` if the modification gives no number.
const fn within_range(modified: f32, was: f32) -> f32 {
    if modified.is_nan() { was } else { modified.clamp(f32::MIN, f32::MAX) }
}

/// A logit as a logprob: of the range, whose two ends lie further apart than it is wide, and of no more than certainty.
const fn logprob(logit: f32, log_sum_exp: f32) -> f32 {
    (logit - log_sum_exp).clamp(f32::MIN, 0.0)
}

/// Keeps the tokens whose bit is set.
fn forbid(logits: &mut [f32], allowed: &[u32]) {
    let (within, beyond) = logits.split_at_mut(logits.len().min(32 * allowed.len()));
    beyond.fill(FORBIDDEN);
    for (logits, word) in within.chunks_mut(32).zip(allowed) {
        for (place, logit) in logits.iter_mut().enumerate() {
            *logit = if word >> place & 1 == 1 { logit.max(FORBIDDEN.next_up()) } else { FORBIDDEN };
        }
    }
}

#[cfg(test)]
mod edges;
#[cfg(test)]
mod tests;
