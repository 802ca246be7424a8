//! A request's parameters as numbers that can be calculated with.

use souk_protocol::SamplingParams;

/// Below this a temperature means greedy. Logits of a model's likeliest tokens are some 1e-6 apart where they are not
/// equal, so less tells nothing more apart; and the inverse of the smallest temperatures is beyond `f32`.
const LEAST_TEMPERATURE: f32 = 1e-5;
/// From here on all tokens are equally likely. The inverse is still a normal number.
const MOST_TEMPERATURE: f32 = 1e30;

/// How a token is drawn where the choice is not greedy. What no formula can use means what is next to it: a share below
/// 0 is 0, one above 1 is 1, and a parameter that is no number is off.
pub(super) struct Rule {
    /// From [`LEAST_TEMPERATURE`] to [`MOST_TEMPERATURE`].
    pub(super) temperature: f32,
    /// From 0, which keeps the likeliest token, to below 1; `None` keeps all.
    pub(super) top_p: Option<f32>,
    /// `None` keeps all.
    pub(super) top_k: Option<usize>,
    /// Above 0, to 1, which keeps what is as likely as the likeliest; `None` keeps all.
    pub(super) min_p: Option<f32>,
}

impl Rule {
    pub(super) fn new(params: &SamplingParams) -> Self {
        let is_warm = params.temperature > LEAST_TEMPERATURE;
        Self {
            temperature: if is_warm { params.temperature.min(MOST_TEMPERATURE) } else { LEAST_TEMPERATURE },
            top_p: (params.top_p < 1.0).then(|| params.top_p.max(0.0)),
            top_k: (params.top_k > 0).then_some(params.top_k as usize),
            min_p: (params.min_p > 0.0).then(|| params.min_p.min(1.0)),
        }
    }

    pub(super) const fn inverse_temperature(&self) -> f32 {
        1.0 / self.temperature
    }
}

/// Whether nothing but the likeliest token can be drawn. A temperature that is no number leaves no other choice.
pub(super) fn is_greedy(params: &SamplingParams) -> bool {
    let is_cold = params.temperature.is_nan() || params.temperature < LEAST_TEMPERATURE;
    is_cold || params.top_p <= 0.0 || params.top_k == 1
}
