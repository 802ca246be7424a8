//! What is held for requests, and until when.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use souk_protocol::{LimitTree, Policy, RequestId, TenantId};

use super::buckets::Taken;
use crate::budgets;
use crate::port::LEASE;
use crate::words::{Amounts, Ask, Violation};

/// What is held, by request.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    by_request: HashMap<RequestId, Holding>,
    /// When to look whether a lease is over, soonest first; of a renewed one there are several.
    leases: VecDeque<(u64, RequestId)>,
}

/// What is held for one request.
#[derive(Debug)]
pub(super) struct Holding {
    pub(super) tenant: TenantId,
    /// Under whose budgets.
    pub(super) tree: Arc<LimitTree>,
    /// In whose periods.
    pub(super) at_ms: u64,
    /// What was reserved, or used once it is settled.
    pub(super) amounts: Amounts,
    /// What was taken from buckets: the level's place in the tree, and which bucket. Nothing once it is settled.
    pub(super) taken: Vec<(usize, Policy, Taken)>,
    /// What was told of limits in shadow mode.
    pub(super) shadowed: Vec<Violation>,
    pub(super) is_settled: bool,
    /// Until when it is held unless that is renewed, in milliseconds since the store began.
    pub(super) until_ms: u64,
}

impl Holding {
    /// What an ask holds that nothing was taken from buckets for.
    pub(super) fn new(ask: &Ask, is_settled: bool, now_ms: u64) -> Self {
        Self {
            tenant: ask.tenant.clone(),
            tree: Arc::clone(&ask.tree),
            at_ms: ask.at_ms,
            amounts: ask.amounts,
            taken: Vec::new(),
            shadowed: Vec::new(),
            is_settled,
            until_ms: if is_settled { lost_at(ask.at_ms, now_ms) } else { lease_until(now_ms) },
        }
    }

    /// Has it held until a total counts it, or its month is long over.
    pub(super) fn settle(&mut self, now_ms: u64) {
        (self.is_settled, self.until_ms) = (true, lost_at(self.at_ms, now_ms));
    }
}

impl Holdings {
    pub(super) fn get(&self, tenant: &TenantId, request: &RequestId) -> Option<&Holding> {
        self.by_request.get(request).filter(|holding| holding.tenant == *tenant)
    }

    pub(super) fn get_mut(&mut self, tenant: &TenantId, request: &RequestId) -> Option<&mut Holding> {
        self.by_request.get_mut(request).filter(|holding| holding.tenant == *tenant)
    }

    pub(super) fn insert(&mut self, request: &RequestId, holding: Holding) {
        if !holding.is_settled {
            self.leases.push_back((holding.until_ms, request.clone()));
        }
        self.by_request.insert(request.clone(), holding);
    }

    pub(super) fn remove(&mut self, tenant: &TenantId, request: &RequestId) -> Option<Holding> {
        self.get(tenant, request)?;
        self.by_request.remove(request)
    }

    /// Renews a lease; false if nothing is held.
    pub(super) fn renew(&mut self, tenant: &TenantId, request: &RequestId, now_ms: u64) -> bool {
        let Some(holding) = self.get_mut(tenant, request) else { return false };
        let until_ms = lease_until(now_ms);
        if !holding.is_settled && holding.until_ms < until_ms {
            holding.until_ms = until_ms;
            self.leases.push_back((until_ms, request.clone()));
        }
        true
    }

    /// Takes out one whose lease is over.
    pub(super) fn pop_lapsed(&mut self, now_ms: u64) -> Option<Holding> {
        while self.leases.front().is_some_and(|(until_ms, _)| *until_ms <= now_ms) {
            let (_, request) = self.leases.pop_front()?;
            // Of one that was renewed there is a later look; one that is settled has no lease.
            if self.by_request.get(&request).is_some_and(|held| !held.is_settled && held.until_ms <= now_ms) {
                return self.by_request.remove(&request);
            }
        }
        None
    }

    /// Takes out what was settled in months that are long over, whose rows will not come.
    pub(super) fn take_lost(&mut self, now_ms: u64) -> Vec<Holding> {
        let is_lost = |holding: &Holding| holding.is_settled && holding.until_ms <= now_ms;
        self.by_request.extract_if(|_, holding| is_lost(holding)).map(|(_, holding)| holding).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.by_request.len()
    }
}

fn lease_until(now_ms: u64) -> u64 {
    now_ms.saturating_add(u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX))
}

fn lost_at(at_ms: u64, now_ms: u64) -> u64 {
    now_ms.saturating_add(budgets::lost_after_ms(at_ms))
}
