//! The flags of `souk bench fleet`; `--help` is written here.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::arguments::positive;

/// Requests where there are too many, as a part of what all places can answer.
const OVERLOAD: f64 = 1.5;

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "clap would show it in place of the command's own")]
pub struct FleetArgs {
    /// A fleet of 1,000 nodes and 100,000 adapters, for 120 s: half a million requests for each way of routing. Other flags change it.
    #[arg(long)]
    pub(crate) full: bool,
    /// Nodes. Default: 50, with --full 1000.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) nodes: Option<u32>,
    /// Adapters. Default: 5000, with --full 100000.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) adapters: Option<u32>,
    /// Choose adapters by a Zipf law with this exponent.
    #[arg(long, default_value_t = 1.0, value_name = "EXPONENT", value_parser = positive)]
    pub(crate) zipf: f64,
    /// Requests, as a part of what all places of all nodes can answer.
    #[arg(long, default_value_t = 0.7, value_name = "PART", value_parser = positive)]
    pub(crate) load: f64,
    /// Places in a node's batch.
    #[arg(long, default_value_t = 16, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) places: u32,
    /// Adapters that a node has room for in memory; at least as many as places.
    #[arg(long, default_value_t = 64, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) adapters_in_memory: u32,
    /// Seconds that an answer takes on average; each draws its own from an exponential law.
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS", value_parser = positive)]
    pub(crate) answer_s: f64,
    /// Seconds that loading an adapter takes.
    #[arg(long, default_value_t = 0.3, value_name = "SECONDS", value_parser = positive)]
    pub(crate) load_s: f64,
    /// Gateways, each with a view of its own.
    #[arg(long, default_value_t = 2, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) gateways: u32,
    /// Tenants, among whom the adapters are shared out by lot.
    #[arg(long, default_value_t = 50, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) tenants: u32,
    /// Percent of the nodes that are lost in a minute, each replaced by a new one with nothing in memory.
    #[arg(long, default_value_t = 4.0, value_name = "PERCENT", value_parser = crate::arguments::not_negative)]
    pub(crate) churn_percent: f64,
    /// Seconds to measure, of virtual time. Default: 60, with --full 120.
    #[arg(long, value_name = "SECONDS", value_parser = positive)]
    pub(crate) duration_s: Option<f64>,
    /// Seconds of virtual time before that are not counted.
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS", value_parser = crate::arguments::not_negative)]
    pub(crate) warm_up_s: f64,
    /// Seed of every random choice: the same seed means the same requests and the same losses.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub(crate) seed: u64,
    /// Write the report as JSON too.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// How large the fleet is and what it is asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Scale {
    pub(super) nodes: usize,
    pub(super) adapters: usize,
    pub(super) zipf: f64,
    pub(super) load: f64,
    pub(super) places: u32,
    pub(super) adapters_in_memory: usize,
    pub(super) answer_s: f64,
    pub(super) load_s: f64,
    pub(super) gateways: usize,
    pub(super) tenants: usize,
    pub(super) churn_percent: f64,
    pub(super) measured_s: f64,
    pub(super) warm_up_s: f64,
    pub(super) seed: u64,
}

impl FleetArgs {
    pub(super) fn scale(&self) -> Scale {
        let default = |quick: u32, full: u32| if self.full { full } else { quick };
        Scale {
            nodes: self.nodes.unwrap_or(default(50, 1000)) as usize,
            adapters: self.adapters.unwrap_or(default(5000, 100_000)) as usize,
            zipf: self.zipf,
            load: self.load,
            places: self.places,
            // What runs is in memory.
            adapters_in_memory: self.adapters_in_memory.max(self.places) as usize,
            answer_s: self.answer_s,
            load_s: self.load_s,
            gateways: self.gateways as usize,
            tenants: self.tenants as usize,
            churn_percent: self.churn_percent,
            measured_s: self.duration_s.unwrap_or(f64::from(default(60, 120))),
            warm_up_s: self.warm_up_s,
            seed: self.seed,
        }
    }
}

impl Scale {
    /// The same fleet with more requests than it can answer, for a shorter while: what waits grows all the time.
    pub(super) fn overloaded(&self) -> Self {
        Self {
            load: self.load.max(OVERLOAD),
            measured_s: self.measured_s.min(20.0),
            warm_up_s: self.warm_up_s.min(10.0),
            ..self.clone()
        }
    }

    /// What fills `load` of all places, loads of adapters left out.
    pub(super) fn requests_per_second(&self) -> f64 {
        self.load * self.nodes as f64 * f64::from(self.places) / self.answer_s
    }
}
