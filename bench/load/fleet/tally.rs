//! What is counted, and the report.

use std::time::Duration;

use serde::Serialize;

use super::arguments::Scale;
use super::clock::Moment;
use super::lanes::Tenant;
use super::node::Found;
use super::shares::{Evenness, Shares};
use crate::histogram::Histogram;

/// What a simulation came to.
#[derive(Clone, Debug, Serialize)]
pub struct FleetReport {
    /// The fleet.
    pub scale: Scale,
    /// Requests of the runs with too many, as a part of what all places can answer.
    pub overload: f64,
    /// Each way of routing, ours first.
    pub routings: Vec<RoutingFigures>,
}

/// What one way of routing came to. Of requests that came within the measured time and whose answers began within it.
#[derive(Clone, Debug, Serialize)]
pub struct RoutingFigures {
    /// Its name.
    pub routing: String,
    /// Requests.
    pub requests: u64,
    /// The part of them that found its adapter in memory.
    pub hit_rate: f64,
    /// Adapters that were loaded.
    pub loads: u64,
    /// Those of them that another live node had.
    pub moves: u64,
    /// Nodes that have an adapter, on average over adapters that some node has, at the end.
    pub copies: f64,
    /// Jobs of the fullest node by those of the average one, on average over time.
    pub imbalance_max: f64,
    /// The same of the node that 99 % of the nodes do not exceed.
    pub imbalance_p99: f64,
    /// Time from a request to the beginning of its answer.
    pub wait_mean_ms: Option<f64>,
    /// Its median.
    pub wait_p50_ms: Option<f64>,
    /// What 99 % of the requests do not exceed.
    pub wait_p99_ms: Option<f64>,
    /// The part of the requests that ran on another node than they were sent to.
    pub stolen: f64,
    /// The wait that 99 % of a tenant's requests do not exceed: that of the tenant with the longest by that of the median one.
    pub worst_tenant: Option<f64>,
    /// How even it was to tenants when more was asked for than all nodes can answer: at
    /// [`overload`](FleetReport::overload), in a run of its own.
    pub overloaded: Option<Evenness>,
}

/// Counts while a simulation runs.
#[derive(Debug)]
pub(super) struct Tally {
    requests: u64,
    hits: u64,
    loads: u64,
    moves: u64,
    stolen: u64,
    waits: Histogram,
    pub(super) shares: Shares,
    samples: u64,
    sum_max: f64,
    sum_p99: f64,
}

/// The beginning of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Began {
    pub(super) tenant: Tenant,
    pub(super) waited: Moment,
    pub(super) found: Found,
    /// Whether another live node had the adapter.
    pub(super) was_elsewhere: bool,
    pub(super) was_stolen: bool,
}

impl Tally {
    pub(super) fn new(num_tenants: usize) -> Self {
        Self {
            requests: 0,
            hits: 0,
            loads: 0,
            moves: 0,
            stolen: 0,
            waits: Histogram::default(),
            shares: Shares::new(num_tenants),
            samples: 0,
            sum_max: 0.0,
            sum_p99: 0.0,
        }
    }

    pub(super) fn began(&mut self, began: Began) {
        self.requests += 1;
        self.hits += u64::from(began.found == Found::Here);
        let is_load = matches!(began.found, Found::Nowhere(_));
        self.loads += u64::from(is_load);
        self.moves += u64::from(is_load && began.was_elsewhere);
        self.stolen += u64::from(began.was_stolen);
        self.waits.record(Duration::from_micros(began.waited));
        self.shares.waited(began.tenant, began.waited);
    }

    /// Looks at the jobs of each live node.
    pub(super) fn sample(&mut self, mut jobs: Vec<usize>) {
        let mean = jobs.iter().sum::<usize>() as f64 / jobs.len().max(1) as f64;
        if mean == 0.0 {
            return;
        }
        jobs.sort_unstable();
        let at = (jobs.len() * 99).div_ceil(100).max(1) - 1;
        self.samples += 1;
        self.sum_max += jobs[jobs.len() - 1] as f64 / mean;
        self.sum_p99 += jobs[at] as f64 / mean;
    }

    pub(super) fn figures(self, routing: &str, copies: &[u32]) -> RoutingFigures {
        let part = |count: u64| count as f64 / self.requests.max(1) as f64;
        let average = |sum: f64| sum / self.samples.max(1) as f64;
        let held: Vec<f64> = copies.iter().filter(|copies| **copies > 0).map(|copies| f64::from(*copies)).collect();
        RoutingFigures {
            routing: routing.to_owned(),
            requests: self.requests,
            hit_rate: part(self.hits),
            loads: self.loads,
            moves: self.moves,
            copies: held.iter().sum::<f64>() / held.len().max(1) as f64,
            imbalance_max: average(self.sum_max),
            imbalance_p99: average(self.sum_p99),
            wait_mean_ms: self.waits.mean_ms(),
            wait_p50_ms: self.waits.percentile_ms(0.5),
            wait_p99_ms: self.waits.percentile_ms(0.99),
            stolen: part(self.stolen),
            worst_tenant: self.shares.worst_wait(),
            overloaded: None,
        }
    }
}
