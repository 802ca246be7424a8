//! What hooks make of a request before the model: the one place between `authorise` and `prepare`.
//!
//! ```text
//! caller's prompt ─► adapter's prompt ─► model ─► adapter's answer or stream ─► caller's answer or stream
//! tenant, key, route   publisher's                     in reverse                  route, key, tenant
//! ```
//!
//! Each hook sees the request as the one before it left it. What one returns is read by the code that reads a client's body, so it
//! is bounded by the same limits; it cannot change how many answers are asked for, nor whether they are streamed, and a publisher's
//! hook neither the adapter nor, upwards, how long the answer may be. A request of several prompts is shown prompt by prompt, and
//! what is made of them must be one request again. When a hook answers, the model is not asked, those within it hear nothing, and the text goes
//! through those around it.
//!
//! What happens when: a hook that fails ends the request (`fail_closed`) or is left out of it (`skip`); one that was taken down
//! fails; a client that leaves drops what runs. No tokens are reserved yet, so all of it is free; the request counts as one.

pub(crate) mod after;
mod checked;
mod rewrite;
mod words;

use std::sync::Arc;

use souk_plugins::words::{PromptOutcome, Request, Rewritten};
use souk_protocol::hooks::{HookRoute, Part, Step};
use souk_protocol::{Outcome, RequestId, wall_clock};
use tokio::time::Instant;

use self::after::{Around, Entered};
use self::checked::Checked;
use self::rewrite::Asked;
use super::ask::Ask;
use super::authorise::CalledModel;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::hooks::acting::{Acting, BaseTokens, Occasion};
use crate::hooks::books::{TAKEN_DOWN, Whose};
use crate::hooks::failure::{HookEnd, HookFailure};
use crate::hooks::shelf::Given;
use crate::hooks::tally::Tally;
use crate::metrics::{self, Stage};

/// Parsing a text is about so many times as fast as encoding it.
const PARSING_SPEED: usize = 4;

/// A request that came through its hooks, as far as they go before the model.
pub(crate) struct Before {
    pub(crate) ask: Ask,
    pub(crate) model: CalledModel,
    /// What the caller wrote in `model`, where a hook has named another.
    pub(crate) called: Option<String>,
    /// What is around its answers; `None`: no hook acts on it.
    pub(crate) around: Option<Around>,
}

/// Who asks, and where.
pub(crate) struct Passage<'a> {
    pub(crate) gateway: &'a Gateway,
    pub(crate) caller: &'a Caller,
    pub(crate) request: &'a RequestId,
    pub(crate) route: HookRoute,
}

impl Passage<'_> {
    /// Whether any hook has anything to do with the request. Without any it costs a look at two words, and where the caller has
    /// some for other requests at three lists.
    pub(crate) fn is_hooked(&self, model: &CalledModel) -> bool {
        let of_caller = self.caller.tree.hooks.as_ref();
        of_caller.is_some_and(|hooks| hooks.steps(self.route).next().is_some()) || model.hooks().is_some()
    }
}

impl Before {
    /// A request that no hook acts on.
    pub(crate) const fn unhooked(ask: Ask, model: CalledModel) -> Self {
        Self { ask, model, called: None, around: None }
    }
}

/// Walks a request through its hooks; what they do is counted in `tally`.
pub(crate) async fn before(
    passage: Passage<'_>,
    ask: Ask,
    model: CalledModel,
    tally: Arc<Tally>,
) -> Result<Before, HookEnd> {
    let began = Instant::now();
    let walked = Box::pin(walk(&passage, ask, model, tally)).await;
    metrics::stage(Stage::Hooks, began.elapsed());
    walked
}

async fn walk(passage: &Passage<'_>, ask: Ask, model: CalledModel, tally: Arc<Tally>) -> Result<Before, HookEnd> {
    let mut walk = Walk::new(passage, ask, model, tally);
    if let Some(hooks) = &passage.caller.tree.hooks {
        for step in hooks.steps(passage.route) {
            walk.step(step, Whose::Caller, Given { variables: &hooks.variables, limits: &hooks.limits }).await?;
        }
    }
    if let Some(attached) = walk.model.hooks().cloned() {
        for step in &attached.steps {
            let given = Given { variables: &attached.variables, limits: &attached.limits };
            walk.step(step, Whose::Publisher, given).await?;
        }
    }
    let Walk { asked, model, called, around, .. } = walk;
    if let Some(hook) = around.rewriter()
        && !asked.ask.input.echoes(&model.base).is_empty()
    {
        let message = format!("'echo' cannot give back a prompt that the hook `{hook}` has written.");
        return Err(HookEnd { error: Box::new(ApiError::unsupported("echo", message)), outcome: Outcome::Refused });
    }
    Ok(Before { ask: asked.ask, model, called, around: Some(around) })
}

/// A request on its way.
struct Walk<'a> {
    passage: &'a Passage<'a>,
    asked: Asked,
    model: CalledModel,
    /// What the caller wrote in `model`, once it is another.
    called: Option<String>,
    around: Around,
    /// What a share of requests is drawn by.
    subject: String,
    occasion: Occasion,
}

/// What a step's hook said of each prompt.
enum Said {
    /// Nothing; so it stays.
    Nothing,
    Rewritten(Vec<Option<Checked>>, Vec<Vec<u8>>),
    Answered(Vec<String>),
}

impl<'a> Walk<'a> {
    fn new(passage: &'a Passage<'a>, ask: Ask, model: CalledModel, tally: Arc<Tally>) -> Self {
        let caller = passage.caller;
        let subject = ask.params.user.clone().unwrap_or_else(|| caller.principal.key.as_str().to_owned());
        let shown = words::shown(&ask, &model.base);
        let occasion = Occasion {
            caller: caller.holder.clone(),
            caller_limits: caller.tree.hooks.as_ref().map(|hooks| hooks.limits.clone()).unwrap_or_default(),
            request: passage.request.clone(),
            seed: ask.params.seed.map_or_else(rand::random, i64::cast_unsigned),
            clock_s: wall_clock::since_epoch().as_secs(),
            tokens: Arc::new(BaseTokens(Arc::clone(&model.base))),
            tally,
        };
        let around = Around::new(Arc::clone(&occasion.tally), ask.logprobs.is_some(), ask.params.stream);
        Self { passage, asked: Asked { ask, shown }, model, called: None, around, subject, occasion }
    }

    /// Has one step act, where it does.
    async fn step(&mut self, step: &Step, whose: Whose, given: Given<'_>) -> Result<(), HookEnd> {
        if self.around.is_answered() || !self.acts(step) {
            return Ok(());
        }
        let may_say = step.may_say(&self.passage.caller.principal.tenant, self.passage.caller.tree.hooks.as_deref());
        let hooks = self.passage.gateway.hooks();
        let books = hooks.books(step.clone(), whose, may_say, &self.occasion);
        let entered = match self.passage.gateway.open_jobs().is_taken_down(&books.step.digest) {
            // The word may be younger than what is known of the step.
            true => Err(HookFailure::new("taken_down", TAKEN_DOWN)),
            false => hooks.enter(&books.step, may_say, given, &self.occasion).await,
        };
        let acting = match entered {
            Ok(hook) => Acting::new(books, hook),
            Err(failure) => return books.failed(first_part(step), failure),
        };
        if !step.parts.contains(&Part::Prompt) {
            self.around.enter(Entered { acting: Arc::new(acting), carries: Vec::new() });
            return Ok(());
        }
        let said = match self.ask_hook(&acting, whose).await {
            Ok(Ok(said)) => said,
            Ok(Err(end)) => return Err(end),
            Err(failure) => return acting.books.failed(Part::Prompt, failure),
        };
        self.take(acting, said).await
    }

    /// Whether a step has anything to do with the request.
    fn acts(&self, step: &Step) -> bool {
        let is_streamed = self.asked.ask.params.stream;
        let acts_after = after::manner(&step.parts, is_streamed).is_some();
        (step.parts.contains(&Part::Prompt) || acts_after) && step.share.has(&step.hook, &self.subject)
    }

    /// What the hook says of each prompt, read and checked; an inner error is a refusal.
    async fn ask_hook(&self, acting: &Acting, whose: Whose) -> Result<Result<Said, HookEnd>, HookFailure> {
        let shown = &self.asked.shown;
        let (mut made, mut carries, mut texts) = (Vec::new(), Vec::new(), Vec::new());
        for given in shown {
            let (checked, carry) = match acting.prompt(given.clone()).await? {
                PromptOutcome::Refused(refusal) => return Ok(Err(acting.books.refused(Part::Prompt, refusal))),
                PromptOutcome::Answered(text) => {
                    texts.push(text);
                    continue;
                }
                PromptOutcome::Unchanged => (None, Vec::new()),
                PromptOutcome::Rewritten(Rewritten { request, carry }) => {
                    (Some(self.check(request, given, whose).await.map_err(unusable)?), carry)
                }
            };
            made.push(checked);
            carries.push(carry);
        }
        if !texts.is_empty() && texts.len() < shown.len() {
            return Err(unusable("it answers some prompts of a request and not the others"));
        }
        Ok(Ok(match (texts.is_empty(), made.iter().any(Option::is_some)) {
            (false, _) => Said::Answered(texts),
            (true, false) => Said::Nothing,
            (true, true) => Said::Rewritten(made, carries),
        }))
    }

    async fn check(&self, request: Request, given: &Request, whose: Whose) -> Result<Checked, String> {
        checked::unchangeable(&request, given, whose == Whose::Caller)?;
        let request = if whose == Whose::Publisher { checked::no_longer(request, given) } else { request };
        let (gateway, ignores_eos) = (self.passage.gateway.clone(), self.asked.ask.params.ignore_eos);
        let num_bytes = checked::num_bytes(&request);
        let work = move || Ok(checked::check(request, ignores_eos, gateway.limits()));
        let texts = self.passage.gateway.texts_of(&self.passage.caller.holder);
        texts.run(num_bytes / PARSING_SPEED, work).await.map_err(|error| error.to_string())?
    }

    /// Makes what a hook said so.
    async fn take(&mut self, acting: Acting, said: Said) -> Result<(), HookEnd> {
        let acting = Arc::new(acting);
        let (made, carries) = match said {
            Said::Nothing => (Vec::new(), Vec::new()),
            Said::Answered(texts) => {
                acting.books.succeeded(Part::Prompt);
                self.around.answer(texts);
                return Ok(());
            }
            Said::Rewritten(made, carries) => (made, carries),
        };
        if let Err(failure) = self.rewrite(&acting, made).await? {
            return acting.books.failed(Part::Prompt, failure);
        }
        acting.books.succeeded(Part::Prompt);
        self.around.enter(Entered { acting, carries });
        Ok(())
    }

    /// Puts a rewritten request in the place of the one that came; an inner error is a failure, after which it is as it was.
    async fn rewrite(
        &mut self,
        acting: &Acting,
        made: Vec<Option<Checked>>,
    ) -> Result<Result<(), HookFailure>, HookEnd> {
        let renamed = match self.asked.renamed(&made, &self.model.base.id) {
            Ok(renamed) => renamed,
            Err(reason) => return Ok(Err(unusable(reason))),
        };
        if let Some((model, adapters)) = renamed {
            let (gateway, principal) = (self.passage.gateway, &self.passage.caller.principal);
            match CalledModel::with_adapters(gateway, principal, &model, &adapters).await {
                Ok(called) => {
                    self.occasion.tokens = Arc::new(BaseTokens(Arc::clone(&called.base)));
                    self.model = called;
                }
                Err(error) if error.status().is_server_error() => {
                    return Err(HookEnd { error: Box::new(error), outcome: acting.books.whose.outcome() });
                }
                Err(error) => return Ok(Err(unusable(error.to_string()))),
            }
            let called = std::mem::replace(&mut self.asked.ask.model, model);
            self.called.get_or_insert(called);
            self.asked.ask.params.adapters = adapters;
        }
        if self.asked.rewrite(made) {
            self.around.rewritten_by(acting.books.name());
        }
        Ok(Ok(()))
    }
}

/// What a hook returned cannot be used.
fn unusable(reason: impl AsRef<str>) -> HookFailure {
    HookFailure::new("invalid_request", reason.as_ref().trim_end_matches('.'))
}

/// The part of a hook that would have acted first.
fn first_part(step: &Step) -> Part {
    step.parts.first().copied().unwrap_or(Part::Prompt)
}
