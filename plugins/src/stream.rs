//! One answer on its way through a hook.

use std::sync::Arc;
use std::time::Duration;

use souk_protocol::TenantId;
use souk_protocol::gate::Pass;
use wasmtime::Store;

use crate::bindings::Transformer;
use crate::call::{Prepared, allow, new_store, settle, start};
use crate::context::CallContext;
use crate::error::{HookError, HookErrorKind};
use crate::executor::Executor;
use crate::figures;
use crate::measured::{Measured, Meter};
use crate::state::State;
use crate::words::{Ending, Opening, Piece, Step};

/// Processor time of a piece up to which the next one begins on its caller's thread. A stream that took longer once has lost that for good, so
/// that a hook gets a tick of a thread that is not its own once in a stream at most.
const QUICK: Duration = Duration::from_micros(100);

/// A stream that a hook sees piece by piece, in one instance from its beginning to its end. Dropping it ends the instance.
pub struct HookStream {
    executor: Arc<Executor>,
    context: CallContext,
    meter: Arc<Meter>,
    /// `None` once it has ended, and while a call is under way: one that is dropped ends the stream.
    open: Option<Box<Open>>,
    fuel_left: u64,
    /// Whether it had pieces, and all of them were done in less than [`QUICK`].
    is_quick: Option<bool>,
    _place: Pass<TenantId>,
}

struct Open {
    store: Store<State>,
    transformer: Transformer,
}

/// What goes to a stream.
enum Event {
    Piece(Piece),
    Ending(Ending),
}

impl HookStream {
    /// Starts an instance and opens the stream in it.
    pub(crate) async fn open(
        executor: Arc<Executor>,
        prepared: Arc<Prepared>,
        context: CallContext,
        opening: Opening,
    ) -> Result<(Self, Measured), HookError> {
        if opening.carry.len() > context.limits.max_input_bytes {
            return Err(HookError::before(HookErrorKind::InputTooLarge));
        }
        let place = executor.stream_place(&context).await?;
        let meter = Arc::new(Meter::default());
        let begin = begin(prepared, context.clone(), Arc::clone(&meter), opening);
        let (open, measured) = executor.run(&context, Arc::clone(&meter), begin).await??;
        let fuel_left = context.limits.max_stream_fuel.saturating_sub(measured.fuel);
        Ok((Self { executor, context, meter, open: Some(open), fuel_left, is_quick: None, _place: place }, measured))
    }

    /// Gives the hook a piece, and says what to send. After [`Step::End`] and [`Step::Refuse`] the stream has ended.
    ///
    /// # Errors
    /// [`HookError`]; the stream has ended, as it does where the future is dropped.
    pub async fn push(&mut self, piece: Piece) -> Result<(Step, Measured), HookError> {
        if piece.size_bytes() > self.context.limits.max_input_bytes {
            self.open = None;
            return Err(HookError::before(HookErrorKind::InputTooLarge));
        }
        self.give(Event::Piece(piece)).await
    }

    /// Says that the answer is over, and gets what was held back. The stream has ended then.
    ///
    /// # Errors
    /// [`HookError`]
    pub async fn finish(&mut self, ending: Ending) -> Result<(Step, Measured), HookError> {
        self.give(Event::Ending(ending)).await
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.open.is_none()
    }

    async fn give(&mut self, event: Event) -> Result<(Step, Measured), HookError> {
        let open = self.open.take().ok_or_else(|| HookError::before(HookErrorKind::Ended))?;
        let fuel = self.fuel_left.min(self.context.limits.max_fuel);
        let is_ending = matches!(event, Event::Ending(_));
        let work = go_on(open, event, Arc::clone(&self.meter), fuel);
        let meter = Arc::clone(&self.meter);
        let given = match self.is_quick {
            Some(true) => self.executor.run_here_first(&self.context, meter, work).await,
            _ => self.executor.run(&self.context, meter, work).await,
        };
        let given = given.and_then(|given| given);
        figures::count_call("stream", given.as_ref().map(|(_, _, measured)| measured));
        let (open, step, measured) = given?;
        self.fuel_left = self.fuel_left.saturating_sub(measured.fuel);
        self.is_quick = Some(self.is_quick != Some(false) && measured.processor <= QUICK);
        if !is_ending && matches!(step, Step::Send(_)) {
            self.open = Some(open);
        }
        Ok((step, measured))
    }
}

async fn begin(
    prepared: Arc<Prepared>,
    context: CallContext,
    meter: Arc<Meter>,
    opening: Opening,
) -> Result<(Box<Open>, Measured), HookError> {
    let limits = context.limits;
    let fuel = limits.max_fuel.min(limits.max_stream_fuel);
    let processor = limits.processor.min(limits.stream_processor);
    let mut store = new_store(&prepared, context, Arc::clone(&meter), processor, fuel);
    let opened = async {
        let instance = start(&prepared, &mut store).await?;
        prepared.bindings.open(&mut store, &instance, opening).await
    };
    let opened = opened.await;
    let (transformer, measured) = settle(&mut store, &meter, Duration::ZERO, fuel, opened)?;
    Ok((Box::new(Open { store, transformer }), measured))
}

async fn go_on(
    mut open: Box<Open>,
    event: Event,
    meter: Arc<Meter>,
    fuel: u64,
) -> Result<(Box<Open>, Step, Measured), HookError> {
    let (limits, spent) = (open.store.data().context.limits, meter.spent());
    let processor = (spent + limits.processor).min(limits.stream_processor);
    allow(&mut open.store, Arc::clone(&meter), processor, fuel);
    let Open { store, transformer } = open.as_mut();
    let result = match event {
        Event::Piece(piece) => transformer.push(store, piece).await,
        Event::Ending(ending) => transformer.finish(store, ending).await,
    };
    let (step, measured) = settle(store, &meter, spent, fuel, result)?;
    Ok((open, step, measured))
}
