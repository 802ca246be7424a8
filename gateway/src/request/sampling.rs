//! The parameters that chat and text completion share.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use souk_protocol::{SamplingParams, TokenId};
use souk_queue::Priority;
use utoipa::ToSchema;

use super::adapters::{WeightedAdapter, take_adapters};
use super::constraint::{ConstraintFields, RequestedConstraint, take_constraint};
use super::fields::{Fields, List, out_of_range, text, wrong_type};
use super::raw::{Kind, Object, Raw};
use crate::error::ApiError;
use crate::limits::GatewayLimits;

/// How to generate, checked.
#[derive(Clone, Debug, PartialEq, ToSchema)]
#[schema(as = Generation)]
pub struct GenerationParams {
    /// Divides the logits; below 0.00001 always the likeliest token. Default 1.
    #[schema(minimum = 0, maximum = 2)]
    pub temperature: Option<f64>,
    /// Keeps the smallest set of tokens whose probabilities reach this sum; 0 is the likeliest token alone. Default 1.
    #[schema(minimum = 0, maximum = 1)]
    pub top_p: Option<f64>,
    /// Keeps this many of the likeliest tokens; -1 or 0 keeps all.
    #[schema(minimum = -1)]
    pub top_k: Option<i64>,
    /// Keeps tokens at least this likely relative to the likeliest.
    #[schema(minimum = 0, maximum = 1)]
    pub min_p: Option<f64>,
    /// Taken off the logit of a token that was generated before.
    #[schema(minimum = -2, maximum = 2)]
    pub presence_penalty: Option<f64>,
    /// Taken off a token's logit for each time it was generated.
    #[schema(minimum = -2, maximum = 2)]
    pub frequency_penalty: Option<f64>,
    /// Divides the logits of tokens seen before. Default 1.
    #[schema(minimum = 0.01, maximum = 2)]
    pub repetition_penalty: Option<f64>,
    /// The same seed and request give the same answer. Choice `i` of several uses `seed + i`.
    pub seed: Option<i64>,
    /// Token ids to values that are added to their logits.
    #[schema(value_type = Option<std::collections::HashMap<String, f64>>)]
    pub logit_bias: Vec<(TokenId, f32)>,
    /// The answer ends before the first of these: a string or a list of up to 16.
    #[schema(value_type = Option<Vec<String>>)]
    pub stop: Vec<String>,
    /// Choices for each prompt.
    #[schema(minimum = 1, maximum = 16, required = false)]
    pub n: u32,
    /// Does not end at the token with which the model ends its answers.
    #[schema(required = false)]
    pub ignore_eos: bool,
    /// Answers with server-sent events.
    #[schema(required = false)]
    pub stream: bool,
    /// Only with `stream`.
    pub stream_options: Option<StreamOptions>,
    /// The caller's own name for its user. Where hooks are rolled out to a share of requests, all of a user are in it or none.
    pub user: Option<String>,
    /// What the caller says about the request, for hooks to see: up to 16 pairs of a name of 64 characters and a text of 512.
    #[schema(value_type = Option<std::collections::HashMap<String, String>>)]
    pub metadata: Vec<(String, String)>,
    /// Adapters that act together, in this order, with `model` naming their base model.
    #[schema(required = false)]
    pub adapters: Vec<WeightedAdapter>,
    /// What the answer must look like.
    #[serde(flatten)]
    #[schema(value_type = ConstraintFields)]
    pub constraint: Option<RequestedConstraint>,
    /// The request's share in percent of an ordinary one's, against others of the same tenant; or as `service_tier`:
    /// `flex` is 50, `auto` and `default` are 100, `priority` is 200.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 10000)]
    pub priority: Priority,
}

/// Options of a streamed answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ToSchema)]
pub struct StreamOptions {
    /// Sends one more chunk with the usage of the whole request before the end.
    #[schema(required = false)]
    pub include_usage: bool,
}

/// Fields of the official API, or that clients are known to send, which are accepted and have no effect here.
pub(super) const WITHOUT_EFFECT: [&str; 8] = [
    "store",
    "parallel_tool_calls",
    "reasoning_effort",
    "verbosity",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "lora_path",
];

/// Longest `user`.
const MAX_USER_BYTES: usize = 1024;
/// Most pairs of `metadata`, and the longest of their names and texts in characters; as in the official API.
const MAX_METADATA: usize = 16;
const MAX_METADATA_NAME: usize = 64;
const MAX_METADATA_TEXT: usize = 512;

/// Dividing by less would carry a model's ordinary logits beyond what `f32` holds long before it meant anything.
const REPETITION_PENALTY: RangeInclusive<f64> = 0.01..=2.0;

impl GenerationParams {
    pub(super) fn take(fields: &mut Fields<'_>, limits: &GatewayLimits) -> Result<Self, ApiError> {
        let stream = fields.boolean("stream")?.unwrap_or(false);
        let constraint = take_constraint(fields, limits)?;
        let ignore_eos = fields.boolean("ignore_eos")?.unwrap_or(false);
        if let Some(constraint) = constraint.as_ref().filter(|_| ignore_eos) {
            let message =
                format!("'ignore_eos' cannot be combined with '{}', which says where to end.", constraint.field);
            return Err(ApiError::invalid("ignore_eos", message));
        }
        Ok(Self {
            temperature: fields.number("temperature", 0.0..=2.0)?,
            top_p: fields.number("top_p", 0.0..=1.0)?,
            top_k: fields.integer("top_k", -1..=i64::from(u32::MAX))?,
            min_p: fields.number("min_p", 0.0..=1.0)?,
            presence_penalty: fields.number("presence_penalty", -2.0..=2.0)?,
            frequency_penalty: fields.number("frequency_penalty", -2.0..=2.0)?,
            repetition_penalty: fields.number("repetition_penalty", REPETITION_PENALTY)?,
            seed: fields.integer("seed", i64::MIN..=i64::MAX)?,
            logit_bias: take_logit_bias(fields, limits)?,
            stop: take_stop(fields, limits)?,
            n: fields.integer("n", 1..=i64::from(limits.max_choices))?.map_or(1, |n| n as u32),
            ignore_eos,
            stream_options: take_stream_options(fields, stream)?,
            stream,
            user: take_user(fields)?,
            metadata: take_metadata(fields)?,
            adapters: take_adapters(fields, limits)?,
            constraint,
            priority: take_priority(fields)?,
        })
    }

    /// Refuses token ids that the vocabulary does not have.
    pub(crate) fn check_vocabulary(&self, vocab_size: usize) -> Result<(), ApiError> {
        match self.logit_bias.iter().find(|(id, _)| *id as usize >= vocab_size) {
            Some((id, _)) => Err(ApiError::invalid(
                "logit_bias",
                format!("'logit_bias' names token {id}; the vocabulary has the ids 0 to {}.", vocab_size - 1),
            )),
            None => Ok(()),
        }
    }

    /// The parameters of the request's jobs before [`for_choice`] sets their seeds. Without a seed one is drawn here, so
    /// that a job that is delivered again draws the same tokens.
    pub(crate) fn sampling(&self) -> SamplingParams {
        let number = |value: Option<f64>, default: f32| value.map_or(default, |value| value as f32);
        SamplingParams {
            temperature: number(self.temperature, 1.0),
            top_p: number(self.top_p, 1.0),
            top_k: self.top_k.and_then(|k| u32::try_from(k).ok()).unwrap_or(0),
            min_p: number(self.min_p, 0.0),
            repetition_penalty: number(self.repetition_penalty, 1.0),
            frequency_penalty: number(self.frequency_penalty, 0.0),
            presence_penalty: number(self.presence_penalty, 0.0),
            logit_bias: self.logit_bias.clone(),
            seed: self.seed.map_or_else(rand::random, i64::cast_unsigned),
        }
    }
}

/// The parameters of one choice: choices of one prompt differ by their seed, the same choice of several prompts does not.
pub(crate) fn for_choice(sampling: &SamplingParams, choice: u32) -> SamplingParams {
    SamplingParams { seed: sampling.seed.wrapping_add(u64::from(choice)), ..sampling.clone() }
}

/// It is held as long as the request is.
fn take_user(fields: &mut Fields<'_>) -> Result<Option<String>, ApiError> {
    let user = fields.string("user")?;
    match user.as_ref().map(String::len) {
        Some(given) if given > MAX_USER_BYTES => {
            Err(ApiError::invalid("user", format!("'user' may have {MAX_USER_BYTES} bytes; given {given}.")))
        }
        _ => Ok(user),
    }
}

fn take_metadata(fields: &mut Fields<'_>) -> Result<Vec<(String, String)>, ApiError> {
    let Some(value) = fields.take("metadata") else { return Ok(Vec::new()) };
    let pairs = Object::of(value, MAX_METADATA).ok_or_else(|| wrong_type("metadata", "an object", value))?;
    if let Some(given) = pairs.too_many() {
        let message = format!("'metadata' may have at most {MAX_METADATA} entries; given {given}.");
        return Err(ApiError::invalid("metadata", message));
    }
    let within = |path: &str, what: &str, limit: usize, text: &str| {
        let given = text.chars().count();
        if given <= limit {
            return Ok(());
        }
        Err(ApiError::invalid(path, format!("'{path}' may have {what} of {limit} characters; given {given}.")))
    };
    let pair = |(name, value): (Cow<'_, str>, Raw<'_>)| {
        within("metadata", "names", MAX_METADATA_NAME, &name)?;
        let path = format!("metadata.{name}");
        let value = text(&path, value, "a string")?;
        within(&path, "a text", MAX_METADATA_TEXT, &value)?;
        Ok((name.into_owned(), value.into_owned()))
    };
    pairs.into_parts().into_iter().map(pair).collect()
}

/// The priority that `priority` or `service_tier` asks for; the ordinary one without either.
fn take_priority(fields: &mut Fields<'_>) -> Result<Priority, ApiError> {
    let priority = fields.integer("priority", 1..=10_000)?.and_then(|percent| Priority::percent(percent as u32));
    let tier = match fields.string("service_tier")?.as_deref() {
        None => None,
        Some("auto" | "default") => Some(Priority::ORDINARY),
        Some("flex") => Priority::percent(50),
        Some("priority") => Priority::percent(200),
        Some(other) => {
            let given: String = other.chars().take(40).collect();
            let message = format!("'service_tier' must be one of auto, default, flex, priority; given '{given}'.");
            return Err(ApiError::invalid("service_tier", message));
        }
    };
    if priority.is_some() && tier.is_some_and(|tier| tier != Priority::ORDINARY) {
        return Err(ApiError::invalid("priority", "'priority' cannot be combined with 'service_tier'."));
    }
    Ok(priority.or(tier).unwrap_or(Priority::ORDINARY))
}

fn take_logit_bias(fields: &mut Fields<'_>, limits: &GatewayLimits) -> Result<Vec<(TokenId, f32)>, ApiError> {
    let Some(value) = fields.take("logit_bias") else { return Ok(Vec::new()) };
    let limit = limits.max_logit_biases;
    let entries = Object::of(value, limit).ok_or_else(|| wrong_type("logit_bias", "an object", value))?;
    if let Some(given) = entries.too_many() {
        let message = format!("'logit_bias' may have at most {limit} entries; given {given}.");
        return Err(ApiError::invalid("logit_bias", message));
    }
    let entry = |(key, value): (Cow<'_, str>, Raw<'_>)| {
        let id = key.parse::<TokenId>().map_err(|_| {
            let given: String = key.chars().take(40).collect();
            ApiError::invalid("logit_bias", format!("'logit_bias' must have token ids as its keys; given '{given}'."))
        })?;
        let path = format!("logit_bias.{id}");
        match value.as_f64() {
            Some(bias) if (-100.0..=100.0).contains(&bias) => Ok((id, bias as f32)),
            Some(_) => Err(out_of_range(&path, &(-100..=100), value)),
            None => Err(wrong_type(&path, "a number", value)),
        }
    };
    let mut biases = entries.into_parts().into_iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    // `"7"` and `"07"` are two keys and one token.
    biases.sort_by_key(|(id, _)| *id);
    biases.dedup_by_key(|(id, _)| *id);
    Ok(biases)
}

fn take_stop(fields: &mut Fields<'_>, limits: &GatewayLimits) -> Result<Vec<String>, ApiError> {
    let Some(value) = fields.take("stop") else { return Ok(Vec::new()) };
    let expected = "a string or a list of strings";
    let stop = |index: usize, stop: Raw<'_>| {
        let path = format!("stop[{index}]");
        let stop = text(&path, stop, "a string")?;
        if stop.is_empty() || stop.len() > limits.max_stop_bytes {
            let (limit, given) = (limits.max_stop_bytes, stop.len());
            return Err(ApiError::invalid(&path, format!("'{path}' must have 1 to {limit} bytes; given {given}.")));
        }
        Ok(stop.into_owned())
    };
    if value.kind() == Kind::Text {
        // The limits of a list of one hold for it.
        return if limits.max_stops == 0 { Err(too_many_stops(limits, 1)) } else { Ok(vec![stop(0, value)?]) };
    }
    let stops = List::of(value).ok_or_else(|| wrong_type("stop", expected, value))?;
    if stops.len > limits.max_stops {
        return Err(too_many_stops(limits, stops.len));
    }
    stops.map(stop)
}

fn too_many_stops(limits: &GatewayLimits, given: usize) -> ApiError {
    ApiError::invalid("stop", format!("'stop' may have at most {} entries; given {given}.", limits.max_stops))
}

fn take_stream_options(fields: &mut Fields<'_>, stream: bool) -> Result<Option<StreamOptions>, ApiError> {
    let Some(value) = fields.take("stream_options") else { return Ok(None) };
    if !stream {
        let message = "'stream_options' is only allowed with 'stream': true.";
        return Err(ApiError::invalid("stream_options", message));
    }
    let mut options = Fields::within("stream_options", value)?;
    let include_usage = options.boolean("include_usage")?.unwrap_or(false);
    options.refuse_unless("include_obfuscation", "false")?;
    options.refuse_unless("continuous_usage_stats", "false")?;
    options.finish(&[])?;
    Ok(Some(StreamOptions { include_usage }))
}

/// `max_tokens` under any of its names: a positive number of tokens, or zero where `minimum` says so.
pub(super) fn take_max_tokens(fields: &mut Fields<'_>, name: &str, minimum: i64) -> Result<Option<u64>, ApiError> {
    Ok(fields.integer(name, minimum..=i64::from(u32::MAX))?.map(i64::cast_unsigned))
}
