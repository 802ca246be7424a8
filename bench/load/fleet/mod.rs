//! `souk bench fleet`: what routing does in a fleet that nobody has at hand. Nodes are scripted and time is virtual: each way of
//! routing gets the same requests, nodes that leave and nodes that join, and the same queue, which is the one of `souk-queue` in what
//! matters here: a lane for each node, tenants by virtual token counters, and idle nodes that take from lanes that are behind.
//!
//! Begin with [`simulation`], which is the order of events. [`chooser`] has the ways of routing, ours among them as gateways have it,
//! [`lanes`] who waits where, [`node`] what a node has in memory, [`tally`] what is counted, [`shares`] what tenants got.
//!
//! What is simplified: an answer takes as long wherever it runs and whatever runs beside it; a load takes one length of time and a
//! place in the batch; of the lanes that are behind an idle node takes from the one that has waited longest.

mod arguments;
mod chooser;
mod clock;
mod idle;
mod lanes;
mod node;
mod shares;
mod simulation;
mod tally;

#[cfg(test)]
mod tests;

pub use self::arguments::FleetArgs;
use self::chooser::Routing;
pub use self::shares::Evenness;
use self::simulation::Simulation;
pub use self::tally::{FleetReport, RoutingFigures};
use super::report::table;

/// Simulates each way of routing in turn.
#[must_use]
pub fn run(arguments: &FleetArgs) -> FleetReport {
    let scale = arguments.scale();
    let overloaded = scale.overloaded();
    let routings = Routing::ALL.map(|routing| RoutingFigures {
        overloaded: Simulation::new(&overloaded, routing).evenness(),
        ..Simulation::new(&scale, routing).run()
    });
    FleetReport { scale, overload: overloaded.load, routings: routings.into() }
}

/// A report as lines of text.
#[must_use]
pub fn lines(report: &FleetReport) -> Vec<String> {
    let scale = &report.scale;
    let mut lines = vec![
        format!(
            "{} nodes of {} places with room for {} adapters, {} gateways, {} adapters of {} tenants",
            scale.nodes, scale.places, scale.adapters_in_memory, scale.gateways, scale.adapters, scale.tenants
        ),
        format!(
            "Zipf {}, {:.0} requests/s ({:.0} % of all places), answers of {} s, loads of {} s",
            scale.zipf,
            scale.requests_per_second(),
            100.0 * scale.load,
            scale.answer_s,
            scale.load_s
        ),
        format!(
            "{} s after {} s of warm-up; {} % of the nodes lost and replaced a minute; seed {}",
            scale.measured_s, scale.warm_up_s, scale.churn_percent, scale.seed
        ),
        String::new(),
    ];
    let header = [
        "routing", "requests", "hits", "loads", "moves", "copies", "max/mean", "p99/mean", "wait ms", "p50", "p99",
        "stolen", "worst", "least", "even",
    ];
    let ratio = |ratio: Option<f64>, digits| ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.digits$}"));
    let rows = report.routings.iter().map(|one| {
        vec![
            one.routing.clone(),
            one.requests.to_string(),
            format!("{:.1}%", 100.0 * one.hit_rate),
            one.loads.to_string(),
            one.moves.to_string(),
            format!("{:.2}", one.copies),
            format!("{:.2}", one.imbalance_max),
            format!("{:.2}", one.imbalance_p99),
            table::milliseconds(one.wait_mean_ms),
            table::milliseconds(one.wait_p50_ms),
            table::milliseconds(one.wait_p99_ms),
            format!("{:.1}%", 100.0 * one.stolen),
            ratio(one.worst_tenant, 1),
            ratio(one.overloaded.map(|even| even.least), 2),
            ratio(one.overloaded.map(|even| even.index), 3),
        ]
    });
    lines.extend(table::columns(&header, rows.collect()));
    lines.push(String::new());
    lines.extend(
        [
            "hits: found their adapter in memory. moves: loads of an adapter that another node had. copies: nodes that have an adapter,",
            "on average over adapters that some node has. max/mean, p99/mean: jobs of the fullest node, and of the one that 99 % do not",
            "exceed, by those of the average one, each second. wait: from the request to the beginning of its answer. stolen: taken from",
            "another node's lane. worst: the p99 of waits of the tenant that waits longest, by the median tenant's.",
        ]
        .map(str::to_owned),
    );
    lines.push(format!(
        "least, even: at {:.0} % of all places, what the tenant that got least got of its even part of all that was served, and Jain's",
        100.0 * report.overload
    ));
    lines.push("index of that over all tenants; who asked for less than an even part is due what it asked for (1: nobody gets less).".to_owned());
    lines
}
