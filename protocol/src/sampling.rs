//! How the next token is chosen. The gateway's request types check these values; the engine's sampler follows whatever
//! it gets, and the ranges here are those in which the formulas mean what they say.

use serde::{Deserialize, Serialize};

/// Sampling parameters of one job. The order of application is: penalties, temperature, top_k, min_p, top_p, draw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplingParams {
    /// Divides the logits, 0 to 2; below 0.00001 means greedy.
    pub temperature: f32,
    /// Keeps the smallest set of tokens whose probabilities reach this sum, 0 to 1; 0 keeps the likeliest, 1 all.
    pub top_p: f32,
    /// Keeps this many of the likeliest tokens; 0 keeps all.
    pub top_k: u32,
    /// Keeps tokens at least this likely relative to the likeliest, 0 to 1; 0 keeps all.
    pub min_p: f32,
    /// Divides positive logits of seen tokens and multiplies negative ones (CTRL, arXiv 1909.05858), 0.01 to 2;
    /// Divides positive logits of tokens that occurred and multiplies negative ones; 1 is off.
    pub repetition_penalty: f32,
    /// Taken off a token's logit for each time it was generated.
    pub frequency_penalty: f32,
    /// Taken off a token's logit once if it was generated.
    pub presence_penalty: f32,
    /// Added to the logits of these tokens before all else.
    pub logit_bias: Vec<(u32, f32)>,
    /// Randomness is a function of (seed, position) alone, so a repeated or continued job draws the same tokens.
    pub seed: u64,
}

impl SamplingParams {
    /// Always the likeliest token.
    #[must_use]
    pub const fn greedy() -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}
