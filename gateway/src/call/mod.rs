//! One road for a call, whatever API it came by: routes parse before it and shape after it.
//!
//! ```text
//! admit       a place among the requests under way, kept until every job is settled
//! authorise   who asks and what binds them (checked before the body, see auth.rs), what the model means for them: base, digests
//! repeat      with an Idempotency-Key: once
//! prepare     template and tokens, what the context and the ceiling leave, how to choose
//! reserve     all that it can use, at every limit; the journal knows of it
//! dispatch    a job per choice to the lane of the node that should hold the adapter
//! follow      a job's events, whatever becomes of its node; what ends it from outside
//! settle      what was computed and what was delivered, once per job, however it ended
//! reservation what the jobs of a request used together, to journal, limits and database
//! ```
//!
//! Between `follow` and the route stands [`reply`](crate::reply), which makes text of events.
//!
//! What happens when: a client that goes away drops its replies, and with them the jobs, each of which is cancelled and
//! followed to its settlement by a task of its own. A node that is lost is the queue's business; the answer goes on
//! from the tokens that are here. When this process dies its jobs end as their nodes find nobody listening; the next one finds in
//! the journal what was under way, which is free, and what was settled and not written, which it writes.

pub(crate) mod admit;
pub(crate) mod authorise;
pub(crate) mod dispatch;
pub(crate) mod follow;
pub(crate) mod gates;
mod lanes;
pub(crate) mod open_jobs;
pub(crate) mod prepare;
pub(crate) mod repeat;
pub(crate) mod reservation;
mod reserve;
mod settle;

use axum::response::Response;
use souk_protocol::RequestId;
use tokio::time::Instant;

use self::admit::Admission;
use self::authorise::CalledModel;
use self::dispatch::dispatch;
use self::prepare::{Input, Length, Prepared, PreparedPrompt, Room, prepare};
use self::repeat::{Begun, Repeatable};
use self::reservation::SharedReservation;
use self::reserve::{Wanted, reserve};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::metrics::{self, Stage};
use crate::reply::interleave::{Replies, interleave};
use crate::reply::one::Reply;
use crate::reply::rules::ReplyRules;
use crate::reply::told::Told;
use crate::request::GenerationParams;

/// Who asks, and what the request is known by.
pub(crate) struct Asker<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) admission: &'a Admission,
    pub(crate) request: &'a RequestId,
    /// What is asked for, as the API calls it.
    pub(crate) operation: &'static str,
    /// With an `Idempotency-Key`.
    pub(crate) repeatable: Option<Repeatable>,
}

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
    /// What it holds, beside its jobs, until its answer is known.
    pub(crate) reservation: SharedReservation,
}

/// How far a request came.
pub(crate) enum Started {
    /// Its replies begin to come.
    Call(Box<Call>),
    /// It was answered before.
    Repeated(Response),
}

/// Walks the road up to the point where replies begin to come. What limits say on the way is noted in `told`, wherever it ends.
pub(crate) async fn begin(gateway: &Gateway, asker: Asker<'_>, ask: Ask, told: &mut Told) -> Result<Started, ApiError> {
    let Asker { caller, admission, request, operation, repeatable } = asker;
    let Caller { principal, tree, holder } = caller;
    let began = Instant::now();
    let model = CalledModel::with_adapters(gateway, principal, &ask.model, &ask.params.adapters).await?;
    metrics::stage(Stage::Authorise, began.elapsed());
    let repeat = match repeatable {
        None => None,
        Some(repeatable) => {
            let accounting = gateway.accounting();
            match repeat::begin(accounting, tree, &principal.tenant, request, repeatable).await? {
                Begun::First(repeat) => Some(repeat),
                Begun::Answered(response) => return Ok(Started::Repeated(response)),
            }
        }
    };
    let began = Instant::now();
    let room = Room { length: ask.length, ceiling: tree.output_ceiling };
    let prepared = prepare(gateway, holder, &model, ask.input, room, &ask.params).await?;
    metrics::stage(Stage::Prepare, began.elapsed());
    let began = Instant::now();
    let wanted = Wanted {
        request,
        caller: principal,
        tree,
        operation,
        name: &ask.model,
        model: &model,
        prepared: &prepared,
        choices: ask.params.n,
        repeat,
        place: admission.place(),
    };
    let reservation = reserve(gateway, wanted, told).await?;
    metrics::stage(Stage::Reserve, began.elapsed());
    let order = dispatch::Order {
        request: request.clone(),
        tenant: principal.tenant.clone(),
        key: principal.key.clone(),
        model: &model,
        prepared: &prepared,
        logprobs: ask.logprobs,
        prompt_logprobs: ask.prompt_logprobs,
        params: &ask.params,
        reservation: &reservation,
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
    Ok(Started::Call(Box::new(Call { model, prompts, replies, params: ask.params, reservation })))
}
