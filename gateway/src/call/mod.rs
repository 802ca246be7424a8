//! One road for a call, whatever API it came by: routes parse before it and shape after it.
//!
//! ```text
//! admit       a place among the requests under way, kept until every job is settled
//! authorise   who asks and what binds them (checked before the body, see auth.rs), what the model means for them: base, digests
//! repeat      with an Idempotency-Key: once
//! hooks       what the caller's and the publisher's hooks make of it, or say in the model's place
//! unasked     what is kept of a request of which hooks left nothing to ask the model
//! prepare     template and tokens, what the context and the ceiling leave, how to choose
//! reserve     all that it can use, at every limit; the journal knows of it
//! dispatch    a job per choice to the lane of the node that should hold the adapter
//! follow      a job's events, whatever becomes of its node (souk_queue::failover has another go on); what ends it from outside
//! settle      what was computed and what was delivered, once per job, however it ended
//! reservation what the jobs of a request used together, to journal, limits and database
//! ```
//!
//! Between `follow` and the route stands [`reply`](crate::reply), which makes text of events and hands it through the hooks that
//! the request has entered.
//!
//! What happens when: a client that goes away drops its replies, and with them the jobs, each of which is cancelled and
//! followed to its settlement by a task of its own. From a node that is lost its jobs are taken back, and the answers go on
//! from the tokens that are here. When the queue loses what it knew, each job that is waited for is submitted again ([`alive`]). When
//! this process dies its jobs end as their nodes find nobody listening, and another gateway writes down what was delivered ([`left`]);
//! the next one finds in the journal what was settled and not written, which it writes.

pub(crate) mod admit;
pub(crate) mod alive;
pub(crate) mod ask;
pub(crate) mod authorise;
mod book;
pub(crate) mod dispatch;
pub(crate) mod follow;
pub(crate) mod gates;
pub(crate) mod hooks;
pub(crate) mod left;
pub(crate) mod open_jobs;
pub(crate) mod prepare;
pub(crate) mod repeat;
pub(crate) mod reservation;
mod reserve;
mod settle;
pub(crate) mod unasked;

use std::sync::Arc;

use axum::response::Response;
use souk_protocol::hooks::HookRoute;
use souk_protocol::{JobFailure, RequestId, Shadowed};
use tokio::time::Instant;

use self::admit::Admission;
use self::ask::Ask;
use self::authorise::CalledModel;
use self::dispatch::dispatch;
use self::hooks::after::Around;
use self::hooks::{Before, Passage};
use self::prepare::{Prepared, PreparedPrompt, Room, prepare};
use self::repeat::{Begun, Repeat, Repeatable};
use self::reservation::SharedReservation;
use self::reserve::{Asks, Wanted, count_request, reserve};
use self::unasked::{GivenJob, Rest, Unasked};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::hooks::failure::HookEnd;
use crate::hooks::tally::Tally;
use crate::metrics::{self, Stage};
use crate::reply::hooked::{Failure, Source};
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
    /// Where it came in.
    pub(crate) route: HookRoute,
    /// With an `Idempotency-Key`.
    pub(crate) repeatable: Option<Repeatable>,
}

/// A call under way.
pub(crate) struct Call {
    pub(crate) model: CalledModel,
    /// The prompts; choice `c` of prompt `p` is reply `p * n + c`.
    pub(crate) prompts: Vec<PreparedPrompt>,
    pub(crate) replies: Replies,
    /// How the replies are to be handed over.
    pub(crate) params: GenerationParams,
    /// Whether hooks are around its answers.
    pub(crate) is_hooked: bool,
    /// What it holds, beside its jobs, until its answer is known; `None` where a hook answered and nothing is held.
    pub(crate) reservation: Option<SharedReservation>,
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
    let Asker { caller, admission, request, operation, route, repeatable } = asker;
    let Caller { principal, tree, .. } = caller;
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
    let asks = Asks { request, caller: principal, tree, operation };
    let passage = Passage { gateway, caller, request, route };
    if !passage.is_hooked(&model) {
        let before = Before::unhooked(ask, model);
        let run = Run { asks, caller, admission, counted: None, repeat, before };
        return Ok(Started::Call(Box::new(self::run(gateway, run, told).await?)));
    }
    let shadowed = count_request(gateway, asks, told).await?;
    let tally = Arc::new(Tally::default());
    let rest = Rest { shadowed, repeat, tally: Arc::clone(&tally), place: admission.place() };
    let unasked = Unasked::new(gateway.accounting(), asks, (&ask, &model), rest);
    let mut before = hooks::before(passage, ask, model, tally).await.map_err(|HookEnd { error, outcome }| {
        unasked.ended(outcome);
        *error
    })?;
    let call = match before.around.as_mut().and_then(Around::take_answers) {
        Some(texts) => answered(before, texts, unasked),
        None => {
            let (shadowed, repeat) = unasked.asked();
            run(gateway, Run { asks, caller, admission, counted: Some(shadowed), repeat, before }, told).await?
        }
    };
    Ok(Started::Call(Box::new(call)))
}

/// What goes to the model.
struct Run<'a> {
    asks: Asks<'a>,
    caller: &'a Caller,
    admission: &'a Admission,
    /// Limits in shadow mode that would have refused it, where it is counted already.
    counted: Option<Vec<Shadowed>>,
    repeat: Option<Repeat>,
    before: Before,
}

/// The rest of the road, for a request that the model answers.
async fn run(gateway: &Gateway, run: Run<'_>, told: &mut Told) -> Result<Call, ApiError> {
    let Run { asks, caller, admission, counted, repeat, before } = run;
    let Caller { principal, tree, holder } = caller;
    let Before { ask, model, called, around } = before;
    let blamed = |error| match &around {
        Some(around) => around.blamed(error),
        None => error,
    };
    let began = Instant::now();
    let room = Room { length: ask.length, ceiling: tree.output_ceiling };
    let prepared = prepare(gateway, holder, &model, ask.input, room, &ask.params).await.map_err(blamed)?;
    metrics::stage(Stage::Prepare, began.elapsed());
    let began = Instant::now();
    let wanted = Wanted {
        asks,
        counted,
        name: called.as_deref().unwrap_or(&ask.model),
        model: &model,
        prepared: &prepared,
        choices: ask.params.n,
        repeat,
        hooks: around.as_ref().map(|around| Arc::clone(around.tally())),
        place: admission.place(),
    };
    let reservation = reserve(gateway, wanted, told).await?;
    metrics::stage(Stage::Reserve, began.elapsed());
    let order = dispatch::Order {
        request: asks.request.clone(),
        tenant: principal.tenant.clone(),
        key: principal.key.clone(),
        model: &model,
        hooks: around.as_ref().map(Around::components).unwrap_or_default(),
        prepared: &prepared,
        logprobs: ask.logprobs,
        prompt_logprobs: ask.prompt_logprobs,
        params: &ask.params,
        reservation: &reservation,
    };
    let withdrawn = gateway.open_jobs().clone();
    let jobs = dispatch(gateway, order).await.map_err(|error| match (&around, error) {
        (Some(around), ApiError::Job(failure)) => around.of_job(failure, &withdrawn).unwrap_or_else(ApiError::Job),
        (_, error) => error,
    })?;
    let constraint = ask.params.constraint.as_ref().map(|constraint| constraint.field.clone());
    let adapter = model.only_adapter(&ask.model, &ask.params.adapters);
    let named = move |failure: JobFailure| ApiError::of_job(failure, constraint.as_deref(), adapter.as_deref());
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
    let around = around.filter(Around::is_around_answers);
    let is_hooked = around.is_some();
    let replies = match around {
        Some(around) => {
            let replies = around.wrap(replies.map(Source::from), choices, &model.base);
            let named = move |failure| around.of_job(failure, &withdrawn).unwrap_or_else(&named);
            interleave(replies, move |failure: Failure| failure.named(&named))
        }
        None => interleave(replies.collect(), named),
    };
    Ok(Call { model, prompts, replies, params: ask.params, is_hooked, reservation: Some(reservation) })
}

/// A call that a hook has answered: no tokens are reserved and nothing queued, and the text goes through the hooks around that one.
fn answered(before: Before, texts: Vec<String>, unasked: Unasked) -> Call {
    let Before { ask, model, around, .. } = before;
    let echoes = ask.input.echoes(&model.base);
    let prompts = (0..texts.len()).map(|place| PreparedPrompt {
        tokens: Vec::new(),
        max_tokens: 0,
        text: echoes.get(place).cloned().unwrap_or_default(),
    });
    let prompts = prompts.collect();
    let choices = ask.params.n as usize;
    let unasked = Arc::new(unasked);
    let texts = texts.into_iter().flat_map(|text| std::iter::repeat_n(text, choices));
    let sources = (0..).zip(texts).map(|(index, text)| Source::given(text, GivenJob::new(Arc::clone(&unasked), index)));
    let replies = around.map(|around| around.wrap(sources, choices, &model.base)).unwrap_or_default();
    let replies = interleave(replies, |failure: Failure| failure.named(ApiError::Job));
    Call { model, prompts, replies, params: ask.params, is_hooked: true, reservation: None }
}
