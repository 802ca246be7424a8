//! Chooses the next token from a row of logits, and says how likely it was.
//!
//! Order: bias, repetition penalty, frequency and presence penalties, constraint, temperature, top-k, min-p, top-p, draw.
//! Logprobs are those of the unmodified distribution, also under a constraint. All ties go to the lower id. The draw is a function of (seed, position) and the
//! row alone, so a token does not depend on what else is in the batch, and a continued answer equals the uninterrupted one.
//!
//! A row has as many entries as the vocabulary (49,152 and up), so it is read in few plain passes that the compiler
//! vectorises, nothing is sorted whole, and no buffer is allocated per row.

mod draw;
mod scan;
mod weights;

use std::cmp::Ordering;
use std::collections::HashMap;

use souk_protocol::{GenerateJob, SamplingParams, TokenId, TokenLogprobs, TokenOut};

use self::draw::Truncation;
use self::scan::Scan;
use self::weights::Weights;

/// Buffers that are reused from row to row.
#[derive(Debug, Default)]
pub struct Sampler {
    scan: Scan,
    weights: Weights,
    candidates: Vec<Candidate>,
    /// Logits as they were before the request's own modifications.
    unmodified: Vec<(TokenId, f32)>,
}

/// What decides a choice beside the logits.
#[derive(Clone, Copy, Debug)]
pub struct ChoiceContext<'a> {
    /// The request's parameters.
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

/// Why nothing can be chosen from a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRow {
    /// It holds NaN or infinity.
    #[error("a logit is not finite")]
    NotFinite,
    /// A constraint allows no token of the vocabulary.
    #[error("no token is allowed")]
    NothingAllowed,
}

/// Logit of a token that may not be chosen.
const FORBIDDEN: f32 = f32::MIN;

/// A token that may be chosen, with its logit or its weight.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Candidate {
    id: TokenId,
    value: f32,
}

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
        if self.scan.max() == FORBIDDEN {
            return Err(BadRow::NothingAllowed);
        }
        let id = if context.params.temperature <= 0.0 {
            self.scan.argmax(logits)
        } else {
            let uniform = draw::uniform(context.params.seed, context.position);
            self.draw(logits, context, uniform)
        };
        let logit =
            self.unmodified.iter().find(|(changed, _)| *changed == id).map_or(logits[id as usize], |(_, was)| *was);
        let logprobs = unmodified.map(|(log_sum_exp, top)| TokenLogprobs { logprob: logit - log_sum_exp, top });
        Ok(TokenOut { id, logprobs })
    }

    /// The logprob of a token that is given, beside the likeliest ones.
    ///
    /// # Errors
    /// [`BadRow::NotFinite`] if the row holds NaN or infinity.
    pub fn score(&mut self, logits: &[f32], token: TokenId, num_top: u8) -> Result<TokenLogprobs, BadRow> {
        self.scan.read(logits)?;
        let (log_sum_exp, top) = self.top(logits, num_top);
        Ok(TokenLogprobs { logprob: logits[token as usize] - log_sum_exp, top })
    }

    /// The logarithm of the sum of all exponentials, and the likeliest tokens with their logprobs. The row has been scanned.
    fn top(&mut self, logits: &[f32], num_top: u8) -> (f32, Vec<(TokenId, f32)>) {
        self.weights.weigh(&self.scan, logits, 1.0, None);
        // Stable, because the largest logit is taken out of the weights.
        let log_sum_exp = (f64::from(self.scan.max()) + self.weights.total().ln()) as f32;
        if num_top == 0 {
            return (log_sum_exp, Vec::new());
        }
        self.scan.largest(logits, usize::from(num_top), &mut self.candidates);
        self.candidates.sort_unstable_by(Candidate::likelier_first);
        let top = self.candidates.iter().map(|candidate| (candidate.id, candidate.value - log_sum_exp));
        (log_sum_exp, top.collect())
    }

    /// Applies bias and penalties, and remembers what was there before.
    fn modify(&mut self, logits: &mut [f32], params: &SamplingParams, counts: Option<&TokenCounts>) {
        self.unmodified.clear();
        for (id, bias) in &params.logit_bias {
            let Some(logit) = logits.get_mut(*id as usize) else { continue };
            self.unmodified.push((*id, *logit));
            *logit += bias;
        }
        for (id, generated) in counts.into_iter().flat_map(|counts| &counts.generated) {
            let Some(logit) = logits.get_mut(*id as usize) else { continue };
            // A biased token is listed already; the first entry is the one that is found.
            self.unmodified.push((*id, *logit));
            if *logit > 0.0 {
                *logit /= params.repetition_penalty;
            } else {
                *logit *= params.repetition_penalty;
            }
            if *generated > 0 {
                *logit -= params.presence_penalty + params.frequency_penalty * *generated as f32;
            }
        }
    }

    /// Draws from the distribution that temperature and truncation leave. The row has been scanned.
    fn draw(&mut self, logits: &[f32], context: ChoiceContext<'_>, uniform: f64) -> TokenId {
        let params = context.params;
        let inverse_temperature = 1.0 / params.temperature;
        let truncation = Truncation::new(params, logits.len());
        let by_truncation = truncation.last(&mut self.scan, logits, &mut self.candidates);
        let by_constraint = context.allowed.map(|_| Candidate { id: TokenId::MAX, value: FORBIDDEN.next_up() });
        let last = by_truncation.into_iter().chain(by_constraint).min_by(Candidate::likelier_first);
        self.weights.weigh(&self.scan, logits, inverse_temperature, last);
        if params.top_p < 1.0 {
            self.weights.cut_to_nucleus(&self.scan, logits, inverse_temperature, f64::from(params.top_p));
        }
        self.weights.draw(uniform)
    }
}

/// Whether all that a job wants of a row of logits is the largest: then the row need not be written at all.
#[must_use]
pub fn is_plain_greedy(job: &GenerateJob) -> bool {
    let params = &job.sampling;
    let reports_nothing = job.logprobs.is_none() && job.prompt_logprobs.is_none();
    let is_free = job.constraint.is_none() && params.logit_bias.is_empty() && has_no_penalty(params);
    params.temperature <= 0.0 && is_free && reports_nothing
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

/// Keeps the tokens whose bit is set.
fn forbid(logits: &mut [f32], allowed: &[u32]) {
    let (within, beyond) = logits.split_at_mut(logits.len().min(32 * allowed.len()));
    beyond.fill(FORBIDDEN);
    for (logits, word) in within.chunks_mut(32).zip(allowed) {
        for (place, logit) in logits.iter_mut().enumerate() {
            *logit = if word >> place & 1 == 1 { *logit } else { FORBIDDEN };
        }
    }
}

impl Candidate {
    /// Larger values first; among equal ones, as 0 and -0 are, the lower id. A row that has been scanned holds no NaN.
    fn likelier_first(a: &Self, b: &Self) -> Ordering {
        b.value.partial_cmp(&a.value).unwrap_or(Ordering::Equal).then(a.id.cmp(&b.id))
    }
}

#[cfg(test)]
mod tests;
