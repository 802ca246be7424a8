//! Requests that hooks act on, until the model is asked: where it never is, they have a row of their own.
//!
//! A hook may answer in the model's place, refuse or fail. Nothing is reserved and nothing queued then, and nothing is charged; the
//! row says what the hooks took and how it ended. It has a job for each answer that was asked for, as rows of queued requests have.
//!
//! What happens when: a client that leaves while its hooks run has a row, too, as one that left. When this process dies there is
//! none: the journal knows a request from its reservation on, and what cost nothing is not worth a line before.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use souk_protocol::{JobId, JobRecord, Outcome, RequestRecord, Shadowed, Usage, wall_clock};
use tokio::time::Instant;

use super::admit::Place;
use super::ask::Ask;
use super::authorise::CalledModel;
use super::book::book;
use super::repeat::Repeat;
use super::reservation::Reservation;
use super::reserve::Asks;
use crate::hooks::tally::Tally;
use crate::usage::Accounting;
use crate::usage::opened::Opened;

/// A request that the model has not been asked yet. Dropping it writes its row.
pub(crate) struct Unasked {
    /// `None` once the model is asked.
    open: Option<Open>,
    ends: Mutex<Ends>,
}

struct Open {
    accounting: Accounting,
    request: Opened,
    repeat: Option<Repeat>,
    tally: Arc<Tally>,
    place: Place,
    began: Instant,
}

/// How its answers ended, as far as they have.
#[derive(Default)]
struct Ends {
    /// Of those that have no end of their own.
    of_others: Option<Outcome>,
    of_jobs: BTreeMap<u32, Outcome>,
}

/// One answer of a hook's to such a request.
pub(crate) struct GivenJob {
    unasked: Arc<Unasked>,
    index: u32,
}

impl Unasked {
    pub(crate) fn new(accounting: &Accounting, asks: Asks<'_>, (ask, model): (&Ask, &CalledModel), rest: Rest) -> Self {
        let Rest { shadowed, repeat, tally, place } = rest;
        let head = RequestRecord { shadowed, ..asks.head(&ask.model, wall_clock::unix_ms(), repeat.as_ref()) };
        let request = Opened {
            head,
            base: model.base.pool(),
            adapters: model.adapters.iter().map(|(adapter, _)| adapter.digest).collect(),
            prompts: vec![0; ask.input.num_prompts()],
            choices: ask.params.n,
        };
        let open = Open { accounting: accounting.clone(), request, repeat, tally, place, began: Instant::now() };
        Self { open: Some(open), ends: Mutex::default() }
    }

    /// The model is asked after all: what becomes of the request is settled with its jobs. Answers what shadows it, and the key
    /// that it may be repeated with.
    pub(crate) fn asked(mut self) -> (Vec<Shadowed>, Option<Repeat>) {
        self.open.take().map(|open| (open.request.head.shadowed, open.repeat)).unwrap_or_default()
    }

    /// A hook has ended it.
    pub(crate) fn ended(&self, outcome: Outcome) {
        self.lock().of_others = Some(outcome);
    }

    fn lock(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What such a request has beside what was asked.
pub(crate) struct Rest {
    /// Limits in shadow mode that would have refused it.
    pub(crate) shadowed: Vec<Shadowed>,
    pub(crate) repeat: Option<Repeat>,
    /// What hooks do in it.
    pub(crate) tally: Arc<Tally>,
    pub(crate) place: Place,
}

impl GivenJob {
    /// The answer to `index` of all that were asked for.
    pub(crate) const fn new(unasked: Arc<Unasked>, index: u32) -> Self {
        Self { unasked, index }
    }

    /// It came to its end.
    pub(crate) fn over(&self) {
        self.unasked.lock().of_jobs.insert(self.index, Outcome::HookAnswered);
    }

    /// A hook around it has failed or refused it, and with it the request: those that have not ended yet, and of one that is
    /// answered whole all of them.
    pub(crate) fn failed(&self, outcome: Outcome, is_whole: bool) {
        let mut ends = self.unasked.lock();
        ends.of_others = Some(outcome);
        if is_whole {
            ends.of_jobs.clear();
        }
    }
}

impl Drop for Unasked {
    fn drop(&mut self) {
        let ends = std::mem::take(&mut *self.lock());
        if let Some(open) = self.open.take() {
            open.write_down(&ends);
        }
    }
}

impl Open {
    fn write_down(self, ends: &Ends) {
        let Self { accounting, request, repeat, tally, place, began } = self;
        let (head, base, adapters) = (request.head.clone(), request.base, request.adapters.clone());
        let num_jobs = u32::try_from(request.prompts.len()).unwrap_or(u32::MAX).saturating_mul(request.choices);
        let reservation = Reservation::new(&accounting, request, repeat, Some(tally), place);
        for index in 0..num_jobs {
            let ended = ends.of_jobs.get(&index).copied().or(ends.of_others);
            let record = JobRecord {
                job: JobId { request: head.request.clone(), index },
                tenant: head.tenant.clone(),
                base,
                adapters: adapters.clone(),
                outcome: ended.unwrap_or(Outcome::CallerLeft),
                usage: Usage::default(),
                delivered_tokens: 0,
                attempts: 0,
                first_token_after: None,
                took: began.elapsed(),
                counts_prompt: false,
            };
            book(&reservation.book(record));
        }
    }
}
