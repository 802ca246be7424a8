//! The loops that keep the load on.
//!
//! All run on the thread that calls [`Driver::run`]: futures in one set, no locks, no tasks to schedule. The server
//! has the same cores, and what the driver takes is not measured.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep, sleep_until};

use super::exchange::{Buffers, Sender};
use super::random::Arrivals;
use super::record::Record;
use super::workload::{Order, TenantIndex, Workload};

/// How requests follow each other.
#[derive(Debug)]
pub(crate) enum Load {
    /// Each user sends when its last request is answered.
    Closed {
        /// One entry per user: whose it is.
        users: Vec<TenantIndex>,
    },
    /// Requests come on schedule.
    Open { arrivals: Box<Arrivals>, max_in_flight: usize },
}

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Measured requests to send; `None` bounds by time only.
    pub(crate) num_requests: Option<u64>,
    /// How long to wait for answers after the end.
    pub(crate) drain: Duration,
}

/// How a run came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As planned.
    Complete,
    /// By Ctrl-C; what was measured until then stands.
    Interrupted,
}

/// A user whose request failed waits as long, so that a server that refuses is not flooded.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// Puts a load on a server.
#[derive(Debug)]
pub(crate) struct Driver {
    sender: Sender,
    bounds: Bounds,
    workload: RefCell<Workload>,
    record: RefCell<Record>,
    num_taken: Cell<u64>,
    num_in_flight: Cell<u64>,
    spare_buffers: RefCell<Vec<Buffers>>,
}

impl Driver {
    pub(crate) fn new(sender: Sender, bounds: Bounds, workload: Workload, record: Record) -> Self {
        Self {
            sender,
            bounds,
            workload: RefCell::new(workload),
            record: RefCell::new(record),
            num_taken: Cell::new(0),
            num_in_flight: Cell::new(0),
            spare_buffers: RefCell::default(),
        }
    }

    /// Keeps the load on until a bound is reached or `interrupt` is ready; `on_progress` is called twice a second.
    pub(crate) async fn run(
        self,
        load: Load,
        interrupt: impl Future<Output = ()>,
        on_progress: impl Fn(&Record),
    ) -> (Record, Ending) {
        let work = async {
            match load {
                Load::Closed { users } => self.closed(&users).await,
                Load::Open { arrivals, max_in_flight } => self.open(arrivals, max_in_flight).await,
            }
        };
        let progress = async {
            loop {
                sleep(PROGRESS_INTERVAL).await;
                on_progress(&self.record.borrow());
            }
        };
        let ending = tokio::select! {
            () = work => Ending::Complete,
            () = interrupt => Ending::Interrupted,
            () = progress => Ending::Complete,
        };
        let mut record = self.record.into_inner();
        match ending {
            Ending::Complete => record.abandoned(self.num_in_flight.get()),
            Ending::Interrupted => record.close(Instant::now()),
        }
        (record, ending)
    }

    async fn closed(&self, users: &[TenantIndex]) {
        let all: FuturesUnordered<_> = users.iter().map(|tenant| self.user(*tenant)).collect();
        self.until_drained(all.collect::<()>()).await;
    }

    async fn user(&self, tenant: TenantIndex) {
        loop {
            let now = Instant::now();
            let Some(order) = self.take(now, Some(tenant)) else { return };
            if !self.exchange(order, now).await {
                sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    }

    /// An arrival that must wait for a free place keeps its intended instant, also beyond the end of the span: leaving
    /// it out would hide the very stall that held it up.
    async fn open(&self, mut arrivals: Box<Arrivals>, max_in_flight: usize) {
        let mut in_flight = FuturesUnordered::new();
        let mut next = Instant::now() + arrivals.gap();
        let end = self.record.borrow().span.end;
        let mut accepting = end.is_none_or(|end| next < end);
        let all = async {
            while accepting || !in_flight.is_empty() {
                tokio::select! {
                    () = sleep_until(next), if accepting && in_flight.len() < max_in_flight => {
                        match self.take(next, None) {
                            Some(order) => in_flight.push(self.exchange(order, next)),
                            None => accepting = false,
                        }
                        next += arrivals.gap();
                        accepting &= end.is_none_or(|end| next < end);
                    }
                    Some(_) = in_flight.next(), if !in_flight.is_empty() => {}
                }
            }
        };
        self.until_drained(all).await;
        let Some(end) = end.filter(|_| accepting) else { return };
        let num_left = self.bounds.num_requests.map_or(u64::MAX, |bound| bound - self.num_taken.get());
        let mut num_unsent = 0;
        while next < end && num_unsent < num_left {
            num_unsent += 1;
            next += arrivals.gap();
        }
        self.record.borrow_mut().abandoned(num_unsent);
    }

    /// Runs `work`, at most until the drain time after the end of the span.
    async fn until_drained(&self, work: impl Future<Output = ()>) {
        let end = self.record.borrow().span.end;
        match end {
            Some(end) => {
                // What is cut off is counted by `run`.
                tokio::time::timeout_at(end + self.bounds.drain, work).await.ok();
            }
            None => work.await,
        }
    }

    /// The next request, if the bounds allow one at `intended`. Requests of the warm-up are not counted.
    fn take(&self, intended: Instant, tenant: Option<TenantIndex>) -> Option<Order> {
        let span = self.record.borrow().span;
        if span.end.is_some_and(|end| intended >= end) {
            return None;
        }
        if intended >= span.begin {
            if self.bounds.num_requests.is_some_and(|bound| self.num_taken.get() >= bound) {
                return None;
            }
            self.num_taken.set(self.num_taken.get() + 1);
        }
        Some(self.workload.borrow_mut().draw(tenant))
    }

    async fn exchange(&self, order: Order, intended: Instant) -> bool {
        let mut buffers = self.spare_buffers.borrow_mut().pop().unwrap_or_default();
        self.num_in_flight.set(self.num_in_flight.get() + 1);
        let succeeded = self.sender.send(order, intended, &mut buffers, &self.record).await;
        self.num_in_flight.set(self.num_in_flight.get() - 1);
        self.spare_buffers.borrow_mut().push(buffers);
        succeeded
    }
}
