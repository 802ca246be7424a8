//! What a request holds until all its jobs are settled, and what becomes of it then.
//!
//! All jobs of a request share one [`Reservation`], and so does whoever makes the answer. When the last lets go of it, it is
//! settled by a task of its own, whoever left and whatever broke: the journal is told what was used, then the port of limits,
//! then the key that the request may be repeated with, and at last the writer. A request of which nothing was queued gives
//! everything back and leaves no row.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use souk_limits::{Amounts, KeptAnswer};
use souk_protocol::{JobRecord, Outcome, RequestRecord, wall_clock};
use tokio::time::Instant;

use super::admit::Place;
use super::repeat::Repeat;
use crate::crash_points::{self, CrashPoint};
use crate::hooks::tally::Tally;
use crate::metrics::{self, Stage};
use crate::usage::Accounting;
use crate::usage::opened::Opened;

/// What a request holds. Dropping the last handle settles it.
pub(crate) struct Reservation {
    /// `None` once it is dropped.
    open: Option<Open>,
    booked: Mutex<Booked>,
}

struct Open {
    accounting: Accounting,
    request: Opened,
    /// Whether the journal knows it.
    is_in_journal: bool,
    repeat: Option<Repeat>,
    /// What hooks do in it.
    hooks: Option<Arc<Tally>>,
    /// Held until it is settled, so that a drain waits for it.
    _place: Place,
}

#[derive(Default)]
struct Booked {
    jobs: Vec<JobRecord>,
    /// The answer, where it may be given again.
    answer: Option<KeptAnswer>,
}

impl Reservation {
    /// What is about to be reserved.
    pub(crate) fn new(
        accounting: &Accounting,
        request: Opened,
        repeat: Option<Repeat>,
        hooks: Option<Arc<Tally>>,
        place: Place,
    ) -> Self {
        let accounting = accounting.clone();
        let open = Open { accounting, request, is_in_journal: false, repeat, hooks, _place: place };
        Self { open: Some(open), booked: Mutex::default() }
    }

    /// The request, before it is queued.
    pub(crate) const fn request_mut(&mut self) -> &mut Opened {
        &mut self.state().request
    }

    /// Whether the journal knows it.
    pub(crate) const fn is_in_journal(&mut self, is: bool) {
        self.state().is_in_journal = is;
    }

    /// Books a job that was queued and is settled, once. Of the jobs of one prompt the first that is charged for it counts it.
    pub(crate) fn book(&self, mut record: JobRecord) -> JobRecord {
        let choices = self.open.as_ref().map_or(1, |open| open.request.choices.max(1));
        let prompt = |record: &JobRecord| record.job.index / choices;
        let mut booked = self.lock();
        record.counts_prompt = record.outcome.charge(record.usage, record.delivered_tokens).input_tokens > 0
            && !booked.jobs.iter().any(|other| other.counts_prompt && prompt(other) == prompt(&record));
        booked.jobs.push(record.clone());
        record
    }

    /// What any gateway can write the request down with.
    pub(crate) fn account(&self) -> Bytes {
        self.open.as_ref().map(|open| open.request.account()).unwrap_or_default()
    }

    /// Whether the answer is to be kept, should it not be too long.
    pub(crate) fn keeps_answer(&self) -> bool {
        self.open.as_ref().and_then(|open| open.repeat.as_ref()).is_some_and(Repeat::keeps_answer)
    }

    /// Keeps the answer, to be given again.
    pub(crate) fn keep(&self, answer: KeptAnswer) {
        self.lock().answer = Some(answer);
    }

    fn lock(&self) -> MutexGuard<'_, Booked> {
        self.booked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    const fn state(&mut self) -> &mut Open {
        self.open.as_mut().expect("it is taken on drop alone")
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let booked = std::mem::take(&mut *self.lock());
        // Without a runtime the process is ending; the journal says what it was about.
        if let (Some(open), Ok(runtime)) = (self.open.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(open.settle(booked));
        }
    }
}

impl Open {
    async fn settle(self, booked: Booked) {
        let began = Instant::now();
        if booked.jobs.is_empty() {
            self.give_back().await;
        } else {
            self.write_down(booked).await;
        }
        metrics::stage(Stage::Settle, began.elapsed());
    }

    /// Nothing was queued.
    async fn give_back(self) {
        let Self { accounting, request, is_in_journal, repeat, .. } = self;
        let id = request.head.request;
        if is_in_journal {
            accounting.journal().dropped(id.clone()).await;
            // A submission whose answer was lost may have queued something, which is cancelled.
            accounting.posted().push(request.base, [id.clone()]);
        }
        accounting.holdings().settle(&id, Amounts::default()).await;
        if let Some(repeat) = repeat {
            repeat.forget().await;
        }
    }

    async fn write_down(self, Booked { jobs, answer }: Booked) {
        let Self { accounting, request, repeat, hooks, .. } = self;
        crash_points::pass(CrashPoint::Settled);
        let mut record = request.settled(jobs, wall_clock::unix_ms());
        record.hooks = hooks.map(|hooks| hooks.all()).unwrap_or_default();
        accounting.journal().settled(record.clone()).await;
        crash_points::pass(CrashPoint::Journaled);
        let used = used_by(&record);
        accounting.holdings().settle(&record.request, used).await;
        // Before its key is free: who repeats it then finds the rows, or here that they are on their way.
        accounting.writer().push(record);
        match repeat {
            Some(repeat) if used.costs() => repeat.end(answer).await,
            Some(repeat) => repeat.forget().await,
            None => {}
        }
    }
}

/// What a request used of its limits. One of which all jobs were refused, though some were queued, was none.
fn used_by(record: &RequestRecord) -> Amounts {
    let (input_tokens, output_tokens) = record.charge();
    let was_run = record.jobs.iter().any(|job| job.outcome != Outcome::Refused);
    Amounts { requests: u64::from(was_run), input_tokens, output_tokens, training_tokens: 0 }
}

/// A handle on a request's reservation.
pub(crate) type SharedReservation = Arc<Reservation>;
