//! What ends a lease: settlement, expiry; what time does to jobs; and the one place where a job ends.

use souk_protocol::{JobFailure, JobId, NodeId, Outcome, TenantId, TokenId, Usage};
use tokio::time::Instant;

use super::pool::{Phase, Pool, Record};
use crate::error::QueueError;
use crate::words::{DeadLetter, Lease, LeaseProgress, Notice, NoticeKind, Settled, Settlement};

/// How an attempt ended without the job being over.
enum AttemptEnd {
    /// Counts as a delivery.
    Failed { reason: String },
    /// Does not count.
    NotBegun,
}

impl Pool {
    /// Lets everything happen that fell due.
    pub(super) fn sweep(&mut self, now: Instant) {
        while let Some((due, id)) = self.due.first().cloned().filter(|(due, _)| *due <= now) {
            let Some(record) = self.jobs.get(&id) else {
                self.due.remove(&(due, id));
                continue;
            };
            match record.phase {
                Phase::Queued { .. } => {
                    self.dequeue(&id);
                    self.end_unsaid(&id, Outcome::Deadline, JobFailure::DeadlineExceeded, now);
                }
                Phase::Running { .. } => {
                    let reason = "its node was lost: the lease expired".to_owned();
                    self.end_attempt(&id, AttemptEnd::Failed { reason }, now);
                }
                Phase::Over { .. } => {
                    self.due.remove(&(due, id.clone()));
                    self.jobs.remove(&id);
                }
            }
        }
    }

    pub(super) fn renew(&mut self, progress: &[LeaseProgress], now: Instant) -> Vec<Lease> {
        let mut lost = Vec::new();
        for LeaseProgress { lease, output_tokens } in progress {
            if self.live(lease).is_none() {
                lost.push(lease.clone());
                continue;
            }
            self.charge_output(&lease.job, *output_tokens);
            if let Some(Phase::Running { node, cancelled, .. }) = self.jobs.get(&lease.job).map(|record| &record.phase)
            {
                let (node, cancelled, expires) = (node.clone(), *cancelled, now + self.config.lease);
                self.set_phase(&lease.job, Phase::Running { node, expires, cancelled });
            }
        }
        lost
    }

    pub(super) fn settle(&mut self, lease: &Lease, settlement: Settlement, now: Instant) -> Result<(), QueueError> {
        if self.live(lease).is_none() {
            return Err(QueueError::LeaseLost { job: lease.job.clone(), attempt: lease.attempt });
        }
        match settlement {
            Settlement::Over { outcome, usage } => {
                self.charge_output(&lease.job, usage.completion_tokens);
                self.stop_running(&lease.job);
                self.end(&lease.job, outcome, usage, None, now);
            }
            Settlement::Retry { reason } => self.end_attempt(&lease.job, AttemptEnd::Failed { reason }, now),
            Settlement::GiveBack => self.end_attempt(&lease.job, AttemptEnd::NotBegun, now),
        }
        Ok(())
    }

    pub(super) fn take_back(&mut self, lease: &Lease, tokens: Vec<TokenId>, now: Instant) -> bool {
        let Some(record) = self.jobs.get(&lease.job).filter(|record| record.attempt == lease.attempt) else {
            return false;
        };
        let node = match &record.phase {
            Phase::Running { node, .. } => node.clone(),
            Phase::Queued { .. } => return lease.attempt > 0 && self.resume(&lease.job, tokens),
            Phase::Over { .. } => return false,
        };
        self.cancellations.post(&node, lease.clone(), now);
        self.rings.cancellations = true;
        if let Some(record) = self.jobs.get_mut(&lease.job) {
            record.hand_in(tokens);
        }
        let reason = "its gateway could read no more of it".to_owned();
        let end = if self.retired.contains_key(&node) { AttemptEnd::NotBegun } else { AttemptEnd::Failed { reason } };
        self.end_attempt(&lease.job, end, now);
        true
    }

    /// Queues the job again, or ends it if it was cancelled, is too late or was delivered too often.
    fn end_attempt(&mut self, id: &JobId, end: AttemptEnd, now: Instant) {
        self.stop_running(id);
        let Some(record) = self.jobs.get_mut(id) else { return };
        if matches!(record.phase, Phase::Running { cancelled: true, .. }) {
            return self.end_unsaid(id, Outcome::CallerLeft, JobFailure::ShuttingDown, now);
        }
        if record.deadline.is_some_and(|deadline| deadline <= now) {
            return self.end_unsaid(id, Outcome::Deadline, JobFailure::DeadlineExceeded, now);
        }
        if self.is_taken_down(id) {
            return self.end_unsaid(id, Outcome::TakenDown, JobFailure::TakenDown, now);
        }
        if self.is_left(id, now) {
            return self.end_unsaid(id, Outcome::CallerLeft, JobFailure::ShuttingDown, now);
        }
        let Some(record) = self.jobs.get_mut(id) else { return };
        let mut failed_by = None;
        match end {
            AttemptEnd::NotBegun => record.deliveries -= 1,
            AttemptEnd::Failed { reason } if record.deliveries >= self.config.max_deliveries => {
                let deliveries = record.deliveries;
                let letter = DeadLetter { submission: record.submission.clone(), deliveries, reason: reason.clone() };
                self.bury(letter);
                let failure = JobFailure::DeadLetter { attempts: deliveries, reason };
                return self.end_unsaid(id, Outcome::Failed, failure, now);
            }
            AttemptEnd::Failed { .. } => {
                if let Phase::Running { node, .. } = &record.phase {
                    failed_by = Some(node.clone());
                }
            }
        }
        // No more the lane's whose node has just let go of it: another's, where that node has failed it.
        let lane = failed_by.and_then(|node| self.other_than(&node, now));
        let Some(record) = self.jobs.get_mut(id) else { return };
        record.submission.lane = lane;
        self.enqueue(id, None, now);
        self.report(id, NoticeKind::Requeued, now);
    }

    /// The next live node by name after one that has failed a job.
    fn other_than(&self, failed: &NodeId, now: Instant) -> Option<NodeId> {
        let live = || self.nodes.keys().filter(|node| *node != failed && self.is_live(node, now));
        live().find(|node| *node > failed).or_else(|| live().next()).cloned()
    }

    /// Ends a job of which no node says how it ended.
    pub(super) fn end_unsaid(&mut self, id: &JobId, outcome: Outcome, untold: JobFailure, now: Instant) {
        let Some(record) = self.jobs.get(id) else { return };
        let usage = Usage {
            prompt_tokens: u32::try_from(record.submission.job.prompt.len()).unwrap_or(u32::MAX),
            cached_tokens: 0,
            completion_tokens: record.output_charged,
            prefill_began: record.output_charged > 0,
        };
        self.end(id, outcome.after(usage.completion_tokens), usage, Some(untold), now);
    }

    /// Ends a job: tells its gateway, once, and remembers the job for a while so that a late submission has no effect.
    fn end(&mut self, id: &JobId, outcome: Outcome, usage: Usage, untold: Option<JobFailure>, now: Instant) {
        self.set_phase(id, Phase::Over { forget: now + self.config.remember_over });
        let Some(record) = self.jobs.get_mut(id) else { return };
        let settled = Settled { outcome, usage, attempts: record.attempt, untold };
        if !std::mem::replace(&mut record.is_settled, true) {
            if record.submission.account.take().is_some() {
                self.unposted.settle(id, settled.clone(), record.delivered);
            }
            self.report(id, NoticeKind::Settled(settled), now);
        }
    }

    fn live(&self, lease: &Lease) -> Option<&Record> {
        let record = self.jobs.get(&lease.job)?;
        let live = matches!(record.phase, Phase::Running { .. }) && record.attempt == lease.attempt;
        live.then_some(record)
    }

    fn charge_output(&mut self, id: &JobId, output_tokens: u32) {
        let Some(record) = self.jobs.get_mut(id) else { return };
        let new_tokens = output_tokens.saturating_sub(record.output_charged);
        record.output_charged += new_tokens;
        let cost = record.submission.priority.price(f64::from(new_tokens) * self.config.output_token_cost);
        self.counters.charge(&record.submission.job.tenant, cost);
    }

    fn stop_running(&mut self, id: &JobId) {
        let Some(record) = self.jobs.get(id) else { return };
        let tenant: &TenantId = &record.submission.job.tenant;
        if let Some(running) = self.running.get_mut(tenant) {
            *running -= 1;
            if *running == 0 {
                self.running.remove(tenant);
            }
        }
    }

    fn report(&mut self, id: &JobId, kind: NoticeKind, now: Instant) {
        let Some(record) = self.jobs.get(id) else { return };
        self.notices.post(&record.submission.reply_to.gateway, Notice { job: id.clone(), kind }, now);
        self.rings.notices = true;
    }
}
