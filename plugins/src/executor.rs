//! Where hooks run: threads of their own, below the engine's in priority, that take turns between calls with each tick.
//!
//! What there is of them is a gate: calls of a tenant beyond its share stand in line, and a call's work is dropped with its caller.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use souk_protocol::TenantId;
use souk_protocol::gate::{Cause, Gate, Pass, Refusal, Rules, Terms};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use crate::context::CallContext;
use crate::engine::{Ticker, Ticking};
use crate::error::{HookError, HookErrorKind};
use crate::measured::Meter;
use crate::settings::HookSettings;

/// How far the threads stand back, in steps of `nice`: beside compute threads on every core they still get about a tenth.
#[cfg(target_os = "linux")]
const STAND_BACK: i32 = 10;
/// The lowest priority that there is.
#[cfg(target_os = "linux")]
const LOWEST: i32 = 19;
/// Turns after which a thread looks for calls that just came. Each turn is up to a tick, so they are to wait for one alone.
const LOOK_EVERY: u32 = 1;

/// The threads and their gates.
pub(crate) struct Executor {
    /// There until it is dropped.
    runtime: Option<Runtime>,
    running: Gate<TenantId>,
    streams: Gate<TenantId>,
    /// Most calls of one tenant, and most streams.
    most: (u64, u64),
    max_wait: Duration,
    ticker: Ticker,
}

impl Executor {
    /// Begins the threads.
    ///
    /// # Errors
    /// If there are none to be had.
    pub(crate) fn start(settings: &HookSettings, ticker: Ticker) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(settings.num_threads())
            .global_queue_interval(LOOK_EVERY)
            .thread_name("souk-hook")
            .on_thread_start(stand_back)
            .build()?;
        let [total, streams, most] =
            [settings.max_running, settings.max_streams, settings.max_running_per_tenant].map(|count| count as u64);
        Ok(Self {
            runtime: Some(runtime),
            running: Gate::new(Rules::with_an_eighth_kept(total, 1, most)),
            streams: Gate::new(Rules::with_an_eighth_kept(streams, 1, streams)),
            most: (most, streams),
            max_wait: settings.max_wait,
            ticker,
        })
    }

    /// Does the work of a call when its turn comes. Whoever drops the answer ends the work.
    ///
    /// # Errors
    /// If there is no room for it in time, or the work panicked.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        context: &CallContext,
        meter: Arc<Meter>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, HookError> {
        let pass = self.pass(context).await?;
        self.spawn(Metered { work: Box::pin(work), meter, _ticking: self.ticker.begin(), _pass: pass }).await
    }

    /// The same for work that is over within microseconds as a rule: it begins on the caller's own thread, and goes to a hook's thread if it
    /// is still there at the next tick. Going to another thread and back takes longer than such work does.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub(crate) async fn run_here_first<T: Send + 'static>(
        &self,
        context: &CallContext,
        meter: Arc<Meter>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, HookError> {
        let pass = self.pass(context).await?;
        let mut work = Metered { work: Box::pin(work), meter, _ticking: self.ticker.begin(), _pass: pass };
        let first = poll_fn(|context| {
            let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut work).poll(context)));
            Poll::Ready(polled.map_err(|_| HookError::before(HookErrorKind::Internal)))
        });
        match first.await? {
            Poll::Ready(done) => Ok(done),
            Poll::Pending => self.spawn(work).await,
        }
    }

    async fn spawn<T: Send + 'static>(&self, work: Metered<T>) -> Result<T, HookError> {
        let Some(runtime) = &self.runtime else { return Err(HookError::before(HookErrorKind::Internal)) };
        EndedByDrop(runtime.spawn(work)).await
    }

    /// Lets a call in at once if it can, and else has it stand in line.
    async fn pass(&self, context: &CallContext) -> Result<Pass<TenantId>, HookError> {
        let CallContext { tenant, weight, limits, .. } = context;
        let terms = Terms { amount: 1, weight: *weight, most: self.most.0.min(limits.max_running) };
        if let Ok(pass) = self.running.enter_on(tenant, terms, Instant::now()) {
            return Ok(pass);
        }
        let pass = self.running.wait_on(tenant, terms, self.max_wait).await;
        pass.map_err(|refusal| no_room(&refusal))
    }

    /// Does work that is not a hook's on the same threads' terms.
    ///
    /// # Errors
    /// If the work panicked.
    pub(crate) async fn run_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, HookError> {
        let Some(runtime) = &self.runtime else { return Err(HookError::before(HookErrorKind::Internal)) };
        runtime.spawn_blocking(work).await.map_err(|_| HookError::before(HookErrorKind::Internal))
    }

    /// Takes a place for a stream.
    ///
    /// # Errors
    /// If there is none in time.
    pub(crate) async fn stream_place(&self, context: &CallContext) -> Result<Pass<TenantId>, HookError> {
        let CallContext { tenant, weight, limits, .. } = context;
        let terms = Terms { amount: 1, weight: *weight, most: self.most.1.min(limits.max_streams) };
        let place = self.streams.wait_on(tenant, terms, self.max_wait).await;
        place.map_err(|refusal| no_room(&refusal))
    }

    /// Calls that are under way.
    pub(crate) fn num_running(&self) -> u64 {
        self.running.used()
    }

    /// Streams that are under way.
    pub(crate) fn num_streams(&self) -> u64 {
        self.streams.used()
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        // An ordinary drop waits for what runs, which an async thread must not do.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn no_room(refusal: &Refusal) -> HookError {
    HookError::before(match refusal.cause {
        Cause::Share => HookErrorKind::ShareTaken,
        Cause::Full => HookErrorKind::Busy,
    })
}

/// Lowers the priority of the calling thread, for good.
fn stand_back() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};
        let lowered = getpriority_process(None)
            .and_then(|priority| setpriority_process(None, (priority + STAND_BACK).min(LOWEST)));
        if let Err(error) = lowered {
            tracing::debug!(%error, "a thread of hooks keeps its priority");
        }
    }
}

/// Work whose turns are measured, and the pass that it runs with.
struct Metered<T> {
    work: Pin<Box<dyn Future<Output = T> + Send>>,
    meter: Arc<Meter>,
    _ticking: Ticking,
    _pass: Pass<TenantId>,
}

impl<T> Future for Metered<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        self.meter.begin();
        let polled = self.work.as_mut().poll(context);
        self.meter.end();
        polled
    }
}

/// A task that ends when nobody waits for it any more.
struct EndedByDrop<T>(JoinHandle<T>);

impl<T> Future for EndedByDrop<T> {
    type Output = Result<T, HookError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_err(|error| {
            tracing::error!(%error, "The host failed as it ran a hook");
            HookError::before(HookErrorKind::Internal)
        })
    }
}

impl<T> Drop for EndedByDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
