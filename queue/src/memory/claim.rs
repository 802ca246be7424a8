//! Whose turn it is, and handing it over.

use souk_protocol::{GenerateJob, JobId, NodeId, TenantId};
use tokio::time::Instant;

use super::pool::{Lane, Phase, Pool};
use crate::words::{Claim, Delivery, Lease};

/// Whose jobs a node looks for.
#[derive(Clone, Copy)]
enum Who {
    Anyone,
    /// Tenants of whom the node holds no job.
    Newcomers,
}

impl Pool {
    pub(super) fn claim(&mut self, claim: &Claim, now: Instant) -> Vec<Delivery> {
        let (mut max_jobs, mut max_newcomers) = (claim.max_jobs, claim.max_newcomers);
        let mut deliveries = Vec::new();
        loop {
            let (left, who) = match (max_jobs, max_newcomers) {
                (0, 0) => break,
                (0, _) => (&mut max_newcomers, Who::Newcomers),
                _ => (&mut max_jobs, Who::Anyone),
            };
            *left -= 1;
            match self.pick(&claim.node, who, now).and_then(|id| self.deliver(&id, &claim.node, now)) {
                Some(delivery) => deliveries.push(delivery),
                None => *left = 0,
            }
        }
        deliveries
    }

    /// Whether a claim would find work.
    pub(super) fn finds(&self, claim: &Claim, now: Instant) -> bool {
        let anyone = claim.max_jobs > 0 && self.pick(&claim.node, Who::Anyone, now).is_some();
        anyone || claim.max_newcomers > 0 && self.pick(&claim.node, Who::Newcomers, now).is_some()
    }

    /// The job that `node` should take next: its own lane and the lanes that nobody minds come first; lanes that are
    /// behind only if these are empty, since their own nodes hold the adapters.
    fn pick(&self, node: &NodeId, who: Who, now: Instant) -> Option<JobId> {
        let (near, far): (Vec<_>, Vec<_>) =
            self.lanes.iter().partition(|(owner, _)| self.is_near(owner.as_ref(), node, now));
        let behind = |lane: &Lane| self.waiting_since(lane).is_some_and(|since| now >= since + self.config.steal_after);
        let holds = self.held.get(node);
        let may = |tenant: &TenantId| match who {
            Who::Anyone => true,
            Who::Newcomers => !holds.is_some_and(|holds| holds.contains_key(tenant)),
        };
        self.lowest(near.into_iter().map(|(_, lane)| lane), may)
            .or_else(|| self.lowest(far.into_iter().map(|(_, lane)| lane).filter(|lane| behind(lane)), may))
    }

    /// Whether a lane is `node`'s own, or one that nobody minds.
    pub(super) fn is_near(&self, owner: Option<&NodeId>, node: &NodeId, now: Instant) -> bool {
        owner.is_none_or(|owner| owner == node || !self.is_live(owner, now))
    }

    /// The oldest job of the tenant with the lowest counter among those that may be served. Among equal counters the
    /// oldest job comes first.
    fn lowest<'a>(&'a self, lanes: impl Iterator<Item = &'a Lane>, may: impl Fn(&TenantId) -> bool) -> Option<JobId> {
        let heads = lanes.flatten().filter(|(tenant, _)| may(tenant)).filter_map(|(tenant, queue)| {
            let (ticket, id) = queue.first_key_value()?;
            Some((self.counters.counter(tenant), *ticket, id))
        });
        let first = heads.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)))?;
        Some(first.2.clone())
    }

    fn deliver(&mut self, id: &JobId, node: &NodeId, now: Instant) -> Option<Delivery> {
        self.dequeue(id);
        let record = self.jobs.get_mut(id)?;
        let since = match record.phase {
            Phase::Queued { since, .. } => since,
            Phase::Running { .. } | Phase::Over { .. } => now,
        };
        record.attempt += 1;
        record.deliveries += 1;
        let submission = &record.submission;
        let tenant = submission.job.tenant.clone();
        // Once per job: a tenant does not pay for a node that was lost.
        if !std::mem::replace(&mut record.prompt_charged, true) {
            self.counters.charge(&tenant, submission.priority.price(submission.job.prompt.len() as f64));
        }
        let time_left = record.deadline.map(|deadline| deadline.saturating_duration_since(now));
        let delivery = Delivery {
            job: GenerateJob { time_left, ..submission.job.clone() },
            lease: Lease { job: id.clone(), attempt: record.attempt },
            lease_for: self.config.lease,
            reply_to: submission.reply_to.clone(),
            waited: now.duration_since(since),
        };
        *self.running.entry(tenant).or_default() += 1;
        self.pace.claimed(now);
        let expires = now + self.config.lease;
        self.set_phase(id, Phase::Running { node: node.clone(), expires, cancelled: false });
        Some(delivery)
    }
}
