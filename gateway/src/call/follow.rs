//! A job on the queue, as the gateway follows it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use souk_protocol::{FinishReason, GenerateJob, JobEvent, JobFailure, Outcome};
use souk_queue::{EventHub, Priority, Submission, Subscription};
use tokio::time::Instant;

use super::open_jobs::{Asked, Ending, News, Standing};
use super::reservation::SharedReservation;
use super::settle::{Account, Opening};
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::lanes::SentJob;

/// How much later than its deadline a job is given up here. The node ends it at the deadline and says so; this is for a
/// node that is lost while the queue cannot be reached.
const GRACE: Duration = Duration::from_secs(5);
/// How long to wait for the last counts of a job that was ended early.
const LAST_COUNTS: Duration = Duration::from_millis(100);
/// How long the last event may take that a node has sent, as the queue says: longer, and the stream of events is
/// broken.
const LAST_EVENT: Duration = Duration::from_secs(5);

/// A submitted job. Dropping it ends it, so that it leaves the batch: the client went away, or the answer is complete.
/// Either way it is then followed to its settlement, by a task of its own ([`Account`]).
pub(crate) struct RunningJob {
    /// Closed first: a node that still sends notices at its next token.
    events: Subscription,
    account: Account,
    /// Its place in the lane that it waits in; `None`: the first node with room takes it.
    sent: Option<SentJob>,
    /// When to give up, and what is then said to have happened.
    give_up: (Instant, JobFailure),
    /// What the queue has said that no node will say.
    untold: Option<JobFailure>,
    /// What came while nobody followed the job yet.
    heard: Option<JobEvent>,
}

/// What the jobs of one request have in common on their way through the queue.
pub(crate) struct Journey {
    /// Who asks for them.
    pub(crate) asked: Arc<Asked>,
    /// When their answers stop being wanted.
    pub(crate) deadline: Instant,
    /// How the request was ended as a whole, if it was.
    pub(crate) ending: Arc<Ending>,
    /// What any gateway can write the request down with; `None` where the queue ends with this process.
    pub(crate) account: Option<Bytes>,
}

impl RunningJob {
    /// Listens to `job` and puts it on the queue.
    pub(crate) async fn submit(
        gateway: &Gateway,
        job: GenerateJob,
        sent: Option<SentJob>,
        journey: &Journey,
        priority: Priority,
        reservation: SharedReservation,
    ) -> Result<Self, ApiError> {
        let events = gateway.hub().subscribe(job.id.clone(), EventHub::capacity_for(&job));
        let opening = Opening {
            queue: gateway.queue(),
            open_jobs: gateway.open_jobs(),
            job: &job,
            asked: &journey.asked,
            reservation,
        };
        let account = Account::open(opening, Arc::clone(&journey.ending))?;
        let give_up = (journey.deadline + GRACE, JobFailure::DeadlineExceeded);
        let lane = sent.as_ref().map(|sent| sent.lane().clone());
        let mut running = Self { events, account, sent, give_up, untold: None, heard: None };
        let (reply_to, account) = (gateway.reply_to(), journey.account.clone());
        let submission = Submission { job, lane, reply_to, priority, account, attempts: 0 };
        let life = gateway.open_jobs().life(submission.job.pool);
        let outlives_queue = submission.account.is_some().then(|| submission.clone());
        gateway.queue().submit(submission).await?;
        running.account.submitted();
        if let Some(submission) = outlives_queue {
            gateway.open_jobs().stands(Standing { submission, deadline: journey.deadline, life });
        }
        Ok(running)
    }

    /// Waits until there is something to follow: a node has begun, or the job has ended. [`next`](Self::next) says what. Dropping
    /// the wait loses nothing.
    pub(crate) async fn hear(&mut self) {
        if self.heard.is_none() && self.account.ended_as_a_whole().is_none() {
            self.heard = Some(self.next_of_job().await);
        }
    }

    /// The next event of the live attempt. Call it no more after the last event.
    pub(crate) async fn next(&mut self) -> JobEvent {
        let event = match (self.account.ended_as_a_whole(), self.heard.take()) {
            (Some(outcome), _) => self.end(outcome),
            (None, Some(heard)) => heard,
            (None, None) => self.next_of_job().await,
        };
        match &event {
            JobEvent::Started => self.account.began(),
            JobEvent::PromptLogprobs(_) => {}
            JobEvent::Tokens { tokens, .. } => self.account.delivered(tokens.len()),
            // Cancelled, and not by us.
            JobEvent::Finished { reason: FinishReason::Cancelled, .. } => self.account.ended(Outcome::Drained),
            JobEvent::Finished { reason, .. } => self.account.ended(reason.outcome()),
            JobEvent::Failed(failure) => self.account.failed(failure),
        }
        event
    }

    /// Ends the job before its time: a stop string is complete. `beyond` of the tokens that the last event brought came
    /// after it and are no part of the answer. Returns how many tokens of its prompt were reused, as far as its node
    /// still says.
    pub(crate) async fn stop(&mut self, beyond: usize) -> u32 {
        self.account.take_back(beyond);
        self.account.ended(Outcome::Stop);
        if !self.account.cancel().await {
            return 0;
        }
        let last_counts = async {
            while let Some((_, event)) = self.events.next().await {
                if let JobEvent::Finished { usage, .. } = event {
                    return usage.cached_tokens;
                }
            }
            0
        };
        tokio::time::timeout(LAST_COUNTS, last_counts).await.unwrap_or(0)
    }

    /// A hook has failed, or refused the answer: so the job ended, whatever was said of it before.
    pub(crate) fn ended_by_hook(&mut self, outcome: Outcome) {
        self.account.overruled(outcome);
    }

    async fn next_of_job(&mut self) -> JobEvent {
        loop {
            if let Some(failure) = &self.untold {
                // Whatever came before it comes first.
                return match self.events.try_next() {
                    Some((_, event)) => event,
                    None => self.over(JobEvent::Failed(failure.clone())),
                };
            }
            let news = tokio::select! {
                biased;
                event = self.events.next() => return match event {
                    Some((_, event)) if event.is_last() => self.over(event),
                    Some((_, event)) => event,
                    // Another subscription took this job's place, which the unique ids rule out.
                    None => JobEvent::Failed(JobFailure::Internal("the event stream was closed".to_owned())),
                },
                news = self.account.news() => news,
                () = tokio::time::sleep_until(self.give_up.0) => return JobEvent::Failed(self.give_up.1.clone()),
            };
            match news {
                News::End => return self.end(self.account.ended_as_a_whole().unwrap_or(Outcome::Drained)),
                News::Requeued => {
                    self.sent.iter().for_each(SentJob::lost_its_node);
                    // What waits here unread has been generated as well.
                    self.account.resume(self.events.tokens()).await;
                }
                News::Settled(settled) => {
                    self.untold.clone_from(&settled.untold);
                    self.account.settled(settled);
                    let broken = JobFailure::Internal("the last event of a job that has ended did not come".to_owned());
                    self.give_up = (Instant::now() + LAST_EVENT, broken);
                }
            }
        }
    }

    /// The job's request was ended as a whole.
    fn end(&mut self, outcome: Outcome) -> JobEvent {
        self.account.ended(outcome);
        JobEvent::Failed(match outcome {
            Outcome::TakenDown => JobFailure::TakenDown,
            Outcome::KeyRevoked => JobFailure::KeyRevoked,
            _ => JobFailure::ShuttingDown,
        })
    }

    /// No node works on the job any more.
    fn over(&mut self, last: JobEvent) -> JobEvent {
        self.account.over();
        last
    }
}
