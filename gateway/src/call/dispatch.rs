//! From a checked request to jobs on the queue.

use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use souk_protocol::{AdapterUse, GenerateJob, JobId, RequestId, TenantId, TokenId};
use tokio::time::Instant;

use crate::error::{ApiError, PromptLength};
use crate::gateway::{Gateway, ResolvedModel, unix_now};
use crate::lanes;
use crate::metrics;
use crate::request::sampling::{Generation, for_choice};
use crate::running::RunningJob;
use crate::served::ServedBase;

/// All jobs of one request.
pub(crate) struct Plan<'a> {
    pub(crate) request: RequestId,
    pub(crate) tenant: TenantId,
    pub(crate) model: &'a ResolvedModel,
    pub(crate) prompts: Vec<PlannedPrompt>,
    pub(crate) generation: &'a Generation,
    /// Alternatives to report per generated token; `None` reports no logprobs.
    pub(crate) logprobs: Option<u8>,
    /// The same for prompt tokens.
    pub(crate) prompt_logprobs: Option<u8>,
}

/// A prompt that fits, with the length that its answers may have.
pub(crate) struct PlannedPrompt {
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) max_tokens: u32,
}

/// How long an answer is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted {
    /// Exactly this, or an error if it does not fit.
    AtMost(u64),
    /// This, or what the context leaves if that is less.
    Default(u64),
    /// What the context leaves.
    Rest,
}

impl PlannedPrompt {
    /// Checks a prompt against vocabulary and context. `param` is the field that it came from.
    pub(crate) fn new(
        base: &ServedBase,
        param: &'static str,
        tokens: Vec<TokenId>,
        wanted: Wanted,
    ) -> Result<Self, ApiError> {
        let vocab_size = base.tokenizer.vocabulary().len();
        if tokens.is_empty() {
            return Err(ApiError::invalid(param, format!("'{param}' must have at least one token.")));
        }
        if let Some(id) = tokens.iter().find(|id| **id as usize >= vocab_size) {
            let message = format!("'{param}' has token {id}; the vocabulary has the ids 0 to {}.", vocab_size - 1);
            return Err(ApiError::invalid(param, message));
        }
        let (limit, given) = (base.context_tokens, tokens.len());
        let too_long =
            |completion| ApiError::ContextLength { param, limit, prompt: PromptLength::Tokens(given), completion };
        let rest = limit.checked_sub(given).ok_or_else(|| too_long(None))? as u64;
        let max_tokens = match wanted {
            Wanted::AtMost(0) => 0,
            _ if rest == 0 => return Err(too_long(None)),
            Wanted::AtMost(wanted) if wanted > rest => return Err(too_long(Some(wanted))),
            Wanted::AtMost(wanted) => wanted,
            Wanted::Default(default) => default.min(rest),
            Wanted::Rest => rest,
        };
        let max_tokens = u32::try_from(max_tokens).unwrap_or(u32::MAX);
        Ok(Self { tokens, max_tokens })
    }
}

/// Queues a job for each choice of each prompt: `index = prompt * n + choice`. If one is refused, those before it are
/// cancelled as they are dropped.
pub(crate) async fn dispatch(gateway: &Gateway, plan: Plan<'_>) -> Result<Vec<RunningJob>, ApiError> {
    let base = &plan.model.base;
    plan.generation.check_vocabulary(base.tokenizer.vocabulary().len())?;
    let timeout = gateway.limits().request_timeout;
    let deadline = Instant::now() + timeout;
    let deadline_unix_ms = u64::try_from((unix_now() + timeout).as_millis()).ok();
    let sampling = plan.generation.sampling();
    let eos_tokens = if plan.generation.ignore_eos { Vec::new() } else { base.eos_tokens.clone() };
    let adapters: Vec<AdapterUse> = plan
        .model
        .adapters
        .iter()
        .map(|(adapter, weight)| AdapterUse { digest: adapter.digest, weight: *weight })
        .collect();
    let lanes = gateway.queue().lanes(base.pool()).await?;
    if lanes.is_empty() {
        return Err(ApiError::NoNode(base.id.clone()));
    }
    // One lane for all jobs of a request, which share adapters and prompts. Any node will do for the base model itself.
    let lane = adapters.first().and_then(|first| lanes::choose(&first.digest, &lanes).cloned());
    let mut running = Vec::with_capacity(plan.prompts.len() * plan.generation.n as usize);
    let mut index = 0;
    for prompt in &plan.prompts {
        metrics::prompt_tokens(prompt.tokens.len());
        for choice in 0..plan.generation.n {
            let job = GenerateJob {
                id: JobId { request: plan.request.clone(), index },
                tenant: plan.tenant.clone(),
                pool: base.pool(),
                prompt: prompt.tokens.clone(),
                resume: Vec::new(),
                adapters: adapters.clone(),
                sampling: for_choice(&sampling, choice),
                constraint: plan.generation.constraint.as_ref().map(|constraint| Arc::clone(&constraint.spec)),
                max_tokens: prompt.max_tokens,
                eos_tokens: eos_tokens.clone(),
                logprobs: plan.logprobs,
                prompt_logprobs: plan.prompt_logprobs,
                deadline_unix_ms,
            };
            running.push(RunningJob::submit(gateway, job, lane.clone(), plan.generation.priority, deadline).await?);
            index += 1;
        }
    }
    Ok(running)
}

/// Header with the digests of the adapters that answer; absent for the base model.
pub(crate) const ADAPTER_DIGEST_HEADER: HeaderName = HeaderName::from_static("x-souk-adapter-digest");

/// Adds to an answer what identifies the weights that gave it.
pub(crate) fn identify(mut response: Response, model: &ResolvedModel) -> Response {
    if !model.adapters.is_empty() {
        let digests: Vec<String> = model.adapters.iter().map(|(adapter, _)| adapter.digest.to_string()).collect();
        let digests = HeaderValue::from_str(&digests.join(", ")).expect("digests are hex digits");
        response.headers_mut().insert(ADAPTER_DIGEST_HEADER, digests);
    }
    response
}
