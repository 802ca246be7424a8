//! Whose turn it is, and handing it over.

use souk_protocol::{JobId, NodeId};
use tokio::time::Instant;

use super::pool::{Lane, Phase, Pool};
use crate::words::{Claim, Delivery, Lease};

impl Pool {
    pub(super) fn claim(&mut self, claim: &Claim, now: Instant) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        while deliveries.len() < claim.max_jobs {
            let Some(delivery) = self.pick(&claim.node, now).and_then(|id| self.deliver(&id, &claim.node, now)) else {
                break;
            };
            deliveries.push(delivery);
        }
        deliveries
    }

    /// The job that `node` should take next: its own lane and the lanes that nobody minds come first; lanes that are
    /// behind only if these are empty, since their own nodes hold the adapters.
    pub(super) fn pick(&self, node: &NodeId, now: Instant) -> Option<JobId> {
        let (near, far): (Vec<_>, Vec<_>) = self.lanes.iter().partition(|(owner, _)| match owner {
            None => true,
            Some(owner) => owner == node || !self.is_live(owner, now),
        });
        let behind = |lane: &Lane| self.waiting_since(lane).is_some_and(|since| now >= since + self.config.steal_after);
        self.lowest(near.into_iter().map(|(_, lane)| lane))
            .or_else(|| self.lowest(far.into_iter().map(|(_, lane)| lane).filter(|lane| behind(lane))))
    }

    /// The oldest job of the tenant with the lowest counter. Among equal counters the oldest job comes first.
    fn lowest<'a>(&'a self, lanes: impl Iterator<Item = &'a Lane>) -> Option<JobId> {
        let heads = lanes.flatten().filter_map(|(tenant, queue)| {
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
            Phase::Queued { since } => since,
            Phase::Running { .. } | Phase::Over { .. } => now,
        };
        record.attempt += 1;
        record.deliveries += 1;
        let submission = &record.submission;
        let tenant = submission.job.tenant.clone();
        // Once per job: a tenant does not pay for a node that was lost.
        if !std::mem::replace(&mut record.prompt_charged, true) {
            self.counters.charge(&tenant, submission.weight.price(submission.job.prompt.len() as f64));
        }
        let delivery = Delivery {
            job: submission.job.clone(),
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
