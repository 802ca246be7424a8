//! Virtual token counters: what each tenant has had, in tokens.

use std::collections::HashMap;

use souk_protocol::TenantId;

/// Counters of one pool's tenants (Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024, algorithm 2).
///
/// Two tenants that both always have jobs waiting differ in service by at most `2 max(input, price * running output)`:
/// the counters themselves differ by at most one claim's charge plus what running jobs may still add.
#[derive(Debug, Default)]
pub(super) struct VirtualCounters {
    counters: HashMap<TenantId, f64>,
    /// Number of waiting jobs per tenant; a tenant with none is not in here.
    queued: HashMap<TenantId, usize>,
    /// Counter of the tenant whose last waiting job left most recently: the floor while nobody waits.
    floor: f64,
}

impl VirtualCounters {
    /// A job of `tenant` begins to wait. A tenant that had none waiting is lifted to the lowest counter of those that
    /// have, so that a pause earns no credit against the others.
    pub(super) fn arrive(&mut self, tenant: &TenantId) {
        if !self.queued.contains_key(tenant) {
            let floor = self.lowest_queued().unwrap_or(self.floor);
            let counter = self.counters.entry(tenant.clone()).or_insert(floor);
            *counter = counter.max(floor);
        }
        *self.queued.entry(tenant.clone()).or_default() += 1;
    }

    /// A job of `tenant` no longer waits.
    pub(super) fn depart(&mut self, tenant: &TenantId) {
        let Some(queued) = self.queued.get_mut(tenant) else { return };
        *queued -= 1;
        if *queued == 0 {
            self.queued.remove(tenant);
            self.floor = self.floor.max(self.lowest_queued().unwrap_or_else(|| self.counter(tenant)));
            self.forget_settled();
        }
    }

    /// Adds to what `tenant` has had.
    pub(super) fn charge(&mut self, tenant: &TenantId, cost: f64) {
        let floor = self.floor;
        *self.counters.entry(tenant.clone()).or_insert(floor) += cost;
    }

    pub(super) fn counter(&self, tenant: &TenantId) -> f64 {
        self.counters.get(tenant).copied().unwrap_or(self.floor)
    }

    pub(super) fn queued(&self, tenant: &TenantId) -> usize {
        self.queued.get(tenant).copied().unwrap_or(0)
    }

    fn lowest_queued(&self) -> Option<f64> {
        self.queued.keys().map(|tenant| self.counter(tenant)).min_by(f64::total_cmp)
    }

    /// Drops counters at or below the floor of tenants with nothing waiting: coming back would lift them to the floor
    /// anyway. Done when they outnumber the others, so that the cost is spread.
    fn forget_settled(&mut self) {
        const KEPT_AT_LEAST: usize = 256;
        if self.counters.len() > KEPT_AT_LEAST + 2 * self.queued.len() {
            let (floor, queued) = (self.floor, &self.queued);
            self.counters.retain(|tenant, counter| *counter > floor || queued.contains_key(tenant));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::from_stored(name)
    }

    #[test]
    fn a_tenant_that_comes_back_is_lifted_to_the_lowest_waiting_counter() {
        let mut counters = VirtualCounters::default();
        counters.arrive(&tenant("busy"));
        counters.charge(&tenant("busy"), 500.0);
        counters.arrive(&tenant("idle"));
        assert_eq!(counters.counter(&tenant("idle")), 500.0);
    }

    #[test]
    fn a_tenant_that_is_ahead_keeps_its_counter_over_a_pause() {
        let mut counters = VirtualCounters::default();
        counters.arrive(&tenant("greedy"));
        counters.depart(&tenant("greedy"));
        counters.charge(&tenant("greedy"), 900.0);
        counters.arrive(&tenant("modest"));
        counters.arrive(&tenant("greedy"));
        assert!(counters.counter(&tenant("modest")) < counters.counter(&tenant("greedy")));
    }

    #[test]
    fn counters_of_tenants_long_gone_are_forgotten() {
        let mut counters = VirtualCounters::default();
        for number in 0..2000 {
            let tenant = tenant(&format!("tenant-{number}"));
            counters.arrive(&tenant);
            counters.charge(&tenant, 1.0);
            counters.depart(&tenant);
        }
        assert!(counters.counters.len() < 600, "{}", counters.counters.len());
    }
}
