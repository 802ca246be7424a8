//! One call of a hook, from a fresh instance to what came of it.

use std::sync::Arc;
use std::time::Duration;

use souk_protocol::Digest;
use wasmtime::component::{Instance, InstancePre};
use wasmtime::{Engine, Error, PoolConcurrencyLimitError, Result, Store, Trap, UpdateDeadline};

use crate::bindings::{Bindings, Transformer};
use crate::context::CallContext;
use crate::error::{HookError, HookErrorKind};
use crate::limits::{Limits, MAX_CARRY_BYTES, MAX_HANDLES};
use crate::measured::{Measured, Meter};
use crate::state::{State, Stop};
use crate::words::{Answer, AnswerOutcome, Description, PromptOutcome, Refusal, Request, Step};

/// Longest detail of an error that is kept.
const MAX_DETAIL_CHARS: usize = 4096;
/// Longest message of a refusal.
const MAX_REFUSAL_BYTES: usize = 4096;
/// What lists of records count for while they are taken over, beside their texts, at most: a message of a conversation has five texts.
const LIFTED_TIMES: usize = 2;

/// A hook that can be started at once.
pub(crate) struct Prepared {
    pub(crate) engine: Engine,
    pub(crate) digest: Digest,
    pub(crate) instance: InstancePre<State>,
    pub(crate) bindings: Bindings,
}

/// What can be asked of a fresh instance.
pub(crate) trait Call: Send + 'static {
    /// What comes of it.
    type Outcome: Outcome;

    /// How much the hook is given.
    fn size_bytes(&self) -> usize;

    /// Asks.
    fn make(
        self,
        store: &mut Store<State>,
        instance: &Instance,
        bindings: &Bindings,
    ) -> impl Future<Output = Result<Self::Outcome>> + Send;
}

/// What a hook gave back.
pub(crate) trait Outcome: Send + 'static {
    /// How much.
    fn size_bytes(&self) -> usize;

    /// What the interface does not allow of it, as far as types do not say.
    fn fault(&self) -> Option<HookErrorKind> {
        None
    }
}

impl Call for Request {
    type Outcome = PromptOutcome;

    fn size_bytes(&self) -> usize {
        self.size_bytes()
    }

    async fn make(self, store: &mut Store<State>, instance: &Instance, bindings: &Bindings) -> Result<PromptOutcome> {
        bindings.prompt(store, instance, self).await
    }
}

impl Call for Answer {
    type Outcome = AnswerOutcome;

    fn size_bytes(&self) -> usize {
        self.size_bytes()
    }

    async fn make(self, store: &mut Store<State>, instance: &Instance, bindings: &Bindings) -> Result<AnswerOutcome> {
        bindings.answer(store, instance, self).await
    }
}

/// The call that asks what a hook is.
pub(crate) struct Describe;

impl Call for Describe {
    type Outcome = Description;

    fn size_bytes(&self) -> usize {
        0
    }

    async fn make(self, store: &mut Store<State>, instance: &Instance, bindings: &Bindings) -> Result<Description> {
        bindings.describe(store, instance).await
    }
}

/// The call that only looks whether a hook can be started, and whether what it exports has the types of the interface.
pub(crate) struct Start;

impl Call for Start {
    type Outcome = ();

    fn size_bytes(&self) -> usize {
        0
    }

    async fn make(self, store: &mut Store<State>, instance: &Instance, bindings: &Bindings) -> Result<()> {
        bindings.check(store, instance)
    }
}

impl Outcome for () {
    fn size_bytes(&self) -> usize {
        0
    }
}

/// What comes of opening a stream is a handle.
impl Outcome for Transformer {
    fn size_bytes(&self) -> usize {
        0
    }
}

impl Outcome for PromptOutcome {
    fn size_bytes(&self) -> usize {
        self.size_bytes()
    }

    fn fault(&self) -> Option<HookErrorKind> {
        match self {
            Self::Rewritten(rewritten) => {
                (rewritten.carry.len() > MAX_CARRY_BYTES).then_some(HookErrorKind::OutputTooLarge)
            }
            Self::Refused(refusal) => refusal.fault(),
            Self::Unchanged | Self::Answered(_) => None,
        }
    }
}

impl Outcome for AnswerOutcome {
    fn size_bytes(&self) -> usize {
        self.size_bytes()
    }

    fn fault(&self) -> Option<HookErrorKind> {
        match self {
            Self::Refused(refusal) => refusal.fault(),
            Self::Unchanged | Self::Replaced(_) => None,
        }
    }
}

impl Outcome for Step {
    fn size_bytes(&self) -> usize {
        self.size_bytes()
    }

    fn fault(&self) -> Option<HookErrorKind> {
        match self {
            Self::Refuse(refusal) => refusal.fault(),
            Self::Send(_) | Self::End(_) => None,
        }
    }
}

impl Outcome for Description {
    fn size_bytes(&self) -> usize {
        self.size_bytes()
    }
}

impl Refusal {
    fn fault(&self) -> Option<HookErrorKind> {
        let is_allowed = (400..500).contains(&self.status) && self.message.len() <= MAX_REFUSAL_BYTES;
        (!is_allowed).then_some(HookErrorKind::Invalid)
    }
}

/// Starts the hook, makes the call, and forgets the instance.
pub(crate) async fn call<C: Call>(
    prepared: Arc<Prepared>,
    context: CallContext,
    meter: Arc<Meter>,
    call: C,
) -> Result<(C::Outcome, Measured), HookError> {
    let limits = context.limits;
    let fuel = limits.max_fuel;
    let mut store = new_store(&prepared, context, Arc::clone(&meter), limits.processor, fuel);
    let result = async {
        let instance = start(&prepared, &mut store).await?;
        call.make(&mut store, &instance, &prepared.bindings).await
    };
    let result = result.await;
    settle(&mut store, &meter, Duration::ZERO, fuel, result)
}

/// A store in which a hook may take what its limits say, for one call. What it had before is nothing.
pub(crate) fn new_store(
    prepared: &Prepared,
    context: CallContext,
    meter: Arc<Meter>,
    processor: Duration,
    fuel: u64,
) -> Store<State> {
    let limits = context.limits;
    let mut store = Store::new(&prepared.engine, State::new(context, &prepared.digest));
    store.limiter(|state| &mut state.bounds);
    store.set_hostcall_fuel(lifted_bytes(&limits));
    store.set_max_component_handles(MAX_HANDLES);
    allow(&mut store, meter, processor, fuel);
    store
}

/// Lets a hook have so much processor time, all that the meter counted included, and fuel.
pub(crate) fn allow(store: &mut Store<State>, meter: Arc<Meter>, processor: Duration, fuel: u64) {
    store.set_fuel(fuel).expect("the engine counts fuel");
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |_| {
        if meter.spent_by_now() > processor {
            Err(Stop(HookErrorKind::TimedOut).into())
        } else {
            Ok(UpdateDeadline::Yield(1))
        }
    });
}

/// Makes an instance.
pub(crate) async fn start(prepared: &Prepared, store: &mut Store<State>) -> Result<Instance> {
    prepared.instance.instantiate_async(store).await
}

/// Most bytes that the host takes over from a hook at once.
fn lifted_bytes(limits: &Limits) -> usize {
    limits.max_output_bytes.saturating_mul(LIFTED_TIMES).max(limits.max_host_bytes)
}

/// What came of a call and what it took: since `spent_before`, of the `fuel` that it had.
pub(crate) fn settle<T: Outcome>(
    store: &mut Store<State>,
    meter: &Meter,
    spent_before: Duration,
    fuel: u64,
    result: Result<T>,
) -> Result<(T, Measured), HookError> {
    let fuel_left = store.get_fuel().unwrap_or_default();
    let state = store.data_mut();
    let host_use = state.take_host_use();
    let measured = Measured {
        fuel: fuel.saturating_sub(fuel_left),
        peak_memory_bytes: state.bounds.peak_memory_bytes as u64,
        num_host_calls: host_use.num_host_calls,
        processor: meter.spent_by_now().saturating_sub(spent_before),
        lines: host_use.lines,
        num_dropped_lines: host_use.num_dropped_lines,
    };
    let (kind, detail) = match result {
        Ok(outcome) if outcome.size_bytes() > state.context.limits.max_output_bytes => {
            (HookErrorKind::OutputTooLarge, None)
        }
        Ok(outcome) => match outcome.fault() {
            Some(fault) => (fault, None),
            None => return Ok((outcome, measured)),
        },
        Err(error) => (kind_of(&error, state.bounds.was_refused), Some(error)),
    };
    let detail = detail.filter(|_| state.context.may_log);
    let detail = detail.map(|error| format!("{error:?}").chars().take(MAX_DETAIL_CHARS).collect::<String>().into());
    Err(HookError { kind, detail, measured: Box::new(measured) })
}

/// What an error of the engine means. `was_refused` says that memory or a table was not to be had.
fn kind_of(error: &Error, was_refused: bool) -> HookErrorKind {
    if let Some(Stop(kind)) = error.downcast_ref::<Stop>() {
        return *kind;
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return HookErrorKind::Busy;
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => HookErrorKind::OutOfFuel,
        Some(Trap::Interrupt) => HookErrorKind::TimedOut,
        Some(Trap::StackOverflow) => HookErrorKind::StackOverflow,
        // What allocators do when they get nothing.
        Some(Trap::UnreachableCodeReached) if was_refused => HookErrorKind::OutOfMemory,
        Some(_) => HookErrorKind::Trap,
        None => kind_of_words(&format!("{error:#}"), was_refused),
    }
}

/// The same of errors that the engine has no type for.
fn kind_of_words(words: &str, was_refused: bool) -> HookErrorKind {
    if words.contains("fuel allocated for hostcalls") {
        HookErrorKind::OutputTooLarge
    } else if words.contains("handle limit exceeded") {
        HookErrorKind::TooManyHandles
    } else if was_refused {
        HookErrorKind::OutOfMemory
    } else {
        HookErrorKind::Invalid
    }
}
