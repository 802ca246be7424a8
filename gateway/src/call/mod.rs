//! One road for a call, whatever API it came by: routes parse before it and shape after it.
//!
//! ```text
//! authorise   who asks (checked before the body, see auth.rs), and what the model means for them: base, digests
//! admit       a place among the requests under way, kept until every job is settled
//! prepare     template and tokens, what the context leaves, how to choose
//! dispatch    a job per choice to the lane of the node that should hold the adapter
//! follow      a job's events, whatever becomes of its node; what ends it from outside
//! settle      what was computed and what was delivered, once per job, however it ended
//! ```
//!
//! Between `follow` and the route stands [`reply`](crate::reply), which makes text of events.
//!
//! What happens when: a client that goes away drops its replies, and with them the jobs, each of which is cancelled and
//! followed to its settlement by a task of its own. A node that is lost is the queue's business; the answer goes on
//! from the tokens that are here. When this process dies its jobs end as their nodes find nobody listening, and their
//! settlements wait in the queue as long as the queue keeps them.

pub(crate) mod admit;
pub(crate) mod authorise;
pub(crate) mod dispatch;
pub(crate) mod follow;
pub(crate) mod gates;
mod lanes;
pub(crate) mod open_jobs;
pub(crate) mod prepare;
mod settle;

use souk_protocol::{Principal, RequestId};

use self::admit::Admission;
use self::authorise::CalledModel;
use self::dispatch::dispatch;
use self::prepare::{Input, Length, Prepared, PreparedPrompt, prepare};
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::reply::interleave::{Replies, interleave};
use crate::reply::one::Reply;
use crate::reply::rules::ReplyRules;
use crate::request::GenerationParams;

/// What a caller asks for, each field checked by itself.
pub(crate) struct Ask {
    /// A base model's id or an adapter's reference.
    pub(crate) model: String,
    pub(crate) input: Input,
    pub(crate) length: Length,
    /// Alternatives to report per generated token; `None` reports no logprobs.
    pub(crate) logprobs: Option<u8>,
    /// The same for prompt tokens.
    pub(crate) prompt_logprobs: Option<u8>,
    /// Whether the token that ends an answer is listed among the scored ones.
    pub(crate) score_ending: bool,
    pub(crate) params: GenerationParams,
}

/// A call under way.
pub(crate) struct Call {
    pub(crate) model: CalledModel,
    /// The prompts; choice `c` of prompt `p` is reply `p * n + c`.
    pub(crate) prompts: Vec<PreparedPrompt>,
    pub(crate) replies: Replies,
    /// How the replies are to be handed over.
    pub(crate) params: GenerationParams,
}

/// Walks the road up to the point where replies begin to come.
pub(crate) async fn begin(
    gateway: &Gateway,
    caller: &Principal,
    admission: &Admission,
    request: &RequestId,
    ask: Ask,
) -> Result<Call, ApiError> {
    let model = CalledModel::with_adapters(gateway, caller, &ask.model, &ask.params.adapters).await?;
    let prepared = prepare(gateway, caller, &model, ask.input, ask.length, &ask.params).await?;
    let order = dispatch::Order {
        request: request.clone(),
        tenant: caller.tenant.clone(),
        key: caller.key.clone(),
        model: &model,
        prepared: &prepared,
        logprobs: ask.logprobs,
        prompt_logprobs: ask.prompt_logprobs,
        params: &ask.params,
        place: admission.place(),
    };
    let jobs = dispatch(gateway, order).await?;
    let Prepared { prompts, eos_tokens, .. } = prepared;
    let choices = ask.params.n as usize;
    let replies = jobs.into_iter().enumerate().map(|(index, job)| {
        let rules = ReplyRules {
            base: &model.base,
            stops: &ask.params.stop,
            eos_tokens: &eos_tokens,
            score_ending: ask.score_ending,
            num_prompt_tokens: prompts[index / choices].tokens.len(),
            prompt_logprobs: ask.prompt_logprobs.is_some(),
        };
        Reply::new(job, &rules)
    });
    let constraint = ask.params.constraint.as_ref().map(|constraint| constraint.field.clone());
    let replies = interleave(replies.collect(), constraint, model.only_adapter(&ask.model, &ask.params.adapters));
    Ok(Call { model, prompts, replies, params: ask.params })
}
