//! What has to hold between the ways of routing, on a small fleet.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    fleet: FleetArgs,
}

fn report(flags: &str) -> FleetReport {
    let flags = std::iter::once("fleet").chain(flags.split_whitespace());
    run(&Flags::try_parse_from(flags).unwrap().fleet)
}

fn of(report: &FleetReport, routing: Routing) -> &RoutingFigures {
    report.routings.iter().find(|one| one.routing == routing.as_str()).unwrap()
}

#[test]
fn ours_finds_adapters_where_least_loaded_does_not_and_is_balanced_where_plain_rendezvous_is_not() {
    let report = report("--nodes 20 --adapters 2000 --duration-s 30 --warm-up-s 20 --churn-percent 10");
    let [ours, rendezvous, least_loaded, random] = Routing::ALL.map(|routing| of(&report, routing));
    for other in [least_loaded, random] {
        assert!(ours.hit_rate > other.hit_rate + 0.1, "{} and {}: {}", ours.hit_rate, other.routing, other.hit_rate);
        assert!(ours.moves * 2 < other.moves, "{} and {}: {}", ours.moves, other.routing, other.moves);
        assert!(ours.copies < other.copies, "{} and {}: {}", ours.copies, other.routing, other.copies);
    }
    assert!(ours.imbalance_max < rendezvous.imbalance_max, "{} {}", ours.imbalance_max, rendezvous.imbalance_max);
    assert!(ours.imbalance_p99 < rendezvous.imbalance_p99, "{} {}", ours.imbalance_p99, rendezvous.imbalance_p99);
    assert!(ours.wait_mean_ms < random.wait_mean_ms, "{:?} {:?}", ours.wait_mean_ms, random.wait_mean_ms);
    // The same requests went to each.
    let about = ours.requests / 100 + 20;
    assert!(report.routings.iter().all(|one| one.requests.abs_diff(ours.requests) < about), "{report:?}");
}

#[test]
fn where_there_is_room_for_all_adapters_and_no_node_is_lost_everything_comes_to_be_warm() {
    let report = report("--nodes 8 --adapters 100 --load 0.3 --churn-percent 0 --duration-s 40 --warm-up-s 60");
    let ours = of(&report, Routing::Souk);
    assert!(ours.hit_rate > 0.95, "{}", ours.hit_rate);
    assert!(ours.stolen < 0.05, "{}", ours.stolen);
}

#[test]
fn whoever_asks_for_too_much_takes_nothing_from_those_who_ask_for_little() {
    // The tenants of the adapters that are asked for most ask for far more than an even part.
    let report = report("--nodes 10 --adapters 200 --tenants 10 --duration-s 20 --warm-up-s 10 --churn-percent 0");
    assert!(report.overload > 1.0);
    let even = of(&report, Routing::Souk).overloaded.unwrap();
    assert!(even.least > 0.6 && even.index > 0.9, "{even:?}");
    let waits: Vec<_> = report.routings.iter().map(|one| one.worst_tenant.unwrap()).collect();
    assert!(waits.iter().all(|worst| *worst >= 1.0), "{waits:?}");
}

#[test]
fn a_seed_means_the_same_figures() {
    let flags = "--nodes 6 --adapters 300 --duration-s 10 --warm-up-s 5 --seed 7 --churn-percent 30";
    let [one, same] = [report(flags), report(flags)].map(|report| serde_json::to_string(&report).unwrap());
    assert_eq!(one, same);
    assert_ne!(one, serde_json::to_string(&report(&flags.replace("seed 7", "seed 8"))).unwrap());
}

#[test]
fn the_table_has_a_row_for_each_way_of_routing() {
    let lines = lines(&report("--nodes 4 --adapters 50 --duration-s 5 --warm-up-s 2"));
    for routing in Routing::ALL {
        assert_eq!(lines.iter().filter(|line| line.starts_with(routing.as_str())).count(), 1, "{lines:#?}");
    }
}

#[test]
fn flags_that_make_no_sense_are_refused() {
    for flags in ["--nodes 0", "--adapters 0", "--load 0", "--answer-s -1", "--places 0", "--gateways 0", "--zipf x"] {
        let given = std::iter::once("fleet").chain(flags.split_whitespace());
        assert!(Flags::try_parse_from(given).is_err(), "{flags}");
    }
}
