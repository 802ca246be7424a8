//! What comes next, without taking it.

use std::collections::HashMap;

use souk_protocol::{Fetchable, NodeId};
use tokio::time::Instant;

use super::pool::Pool;

impl Pool {
    /// The adapters of the jobs whose turn is next: claims are played through on a copy of the counters.
    pub(super) fn peek(&self, node: &NodeId, max_jobs: usize, now: Instant) -> Vec<Fetchable> {
        let near = self.lanes.iter().filter(|(owner, _)| self.is_near(owner.as_ref(), node, now));
        let queues = near.flat_map(|(_, lane)| lane);
        let mut queues: Vec<_> = queues.map(|(tenant, queue)| (tenant, queue.iter().peekable())).collect();
        let mut counters: HashMap<_, _> =
            queues.iter().map(|(tenant, _)| (*tenant, self.counters.counter(tenant))).collect();
        let mut adapters: Vec<Fetchable> = Vec::new();
        for _ in 0..max_jobs {
            let heads = queues.iter_mut().enumerate().filter_map(|(at, (tenant, queue))| {
                let (ticket, _) = queue.peek()?;
                Some((at, counters[tenant], **ticket))
            });
            let Some((at, ..)) = heads.min_by(|a, b| a.1.total_cmp(&b.1).then(a.2.cmp(&b.2))) else { break };
            let (tenant, queue) = &mut queues[at];
            let Some(record) = queue.next().and_then(|(_, id)| self.jobs.get(id)) else { continue };
            for adapter in &record.submission.job.adapters {
                if !adapters.iter().any(|known| known.digest == adapter.digest) {
                    adapters.push(adapter.into());
                }
            }
            if !record.prompt_charged {
                let price = record.submission.priority.price(record.submission.job.prompt.len() as f64);
                counters.entry(tenant).and_modify(|counter| *counter += price);
            }
        }
        adapters
    }
}
