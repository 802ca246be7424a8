//! The result of a run: one type, told as a [`table`], as JSON and as an [`html`] page.

pub(crate) mod html;
mod markup;
mod plot;
pub(crate) mod table;

use serde::{Deserialize, Serialize};

use super::fairness::fairness_index;
use super::histogram::Histogram;
use super::machine::Machine;
use super::record::{Failure, MAX_SECONDS, Part, Record, Second};

/// Name and version of the JSON. A field that is added keeps the version, one that changes meaning raises it.
pub(crate) const SCHEMA: &str = "souk-bench/1";
/// Points of a latency curve: more than a plot has pixels in a step.
const CURVE_POINTS: u64 = 200;

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub(crate) schema: String,
    pub(crate) name: String,
    /// RFC 3339, UTC.
    pub(crate) started_at: String,
    /// The flags that shaped the run, in words.
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) machine: Machine,
    /// Length of the measured span.
    pub(crate) measured_s: f64,
    /// The run was ended by hand.
    pub(crate) interrupted: bool,
    /// Part of one processor that the driver took; `None` where the system does not tell.
    pub(crate) driver_cpu_share: Option<f64>,
    /// Requests completed within the span.
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    pub(crate) requests_per_s: f64,
    pub(crate) tokens_in_per_s: f64,
    pub(crate) tokens_out_per_s: f64,
    pub(crate) tokens_counted: TokensCounted,
    pub(crate) latency: Latencies,
    pub(crate) errors: Vec<ErrorSummary>,
    pub(crate) fairness: Fairness,
    /// `None` unless asked for.
    pub(crate) adapters: Option<Vec<PartSummary>>,
    pub(crate) timeline: Vec<Moment>,
}

/// Where the numbers of tokens come from: requests by source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokensCounted {
    /// The server's usage object.
    pub(crate) by_usage: u64,
    /// Chunks of text; prompts are then not counted.
    pub(crate) by_chunks: u64,
}

/// The distributions of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latencies {
    pub(crate) time_to_first_token: Distribution,
    pub(crate) first_use_of_adapter: Distribution,
    pub(crate) between_chunks: Distribution,
    pub(crate) per_output_token: Distribution,
    pub(crate) total: Distribution,
    pub(crate) send_delay: Distribution,
}

impl Latencies {
    /// Each with its name, in the order of reports.
    pub(crate) fn named(&self) -> [(&'static str, &Distribution); 6] {
        [
            ("time to first token", &self.time_to_first_token),
            ("  first use of an adapter", &self.first_use_of_adapter),
            ("between chunks", &self.between_chunks),
            ("per output token", &self.per_output_token),
            ("total", &self.total),
            ("driver's delay in sending", &self.send_delay),
        ]
    }
}

/// A distribution of times in milliseconds; the values are `None` if nothing was recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Distribution {
    pub(crate) count: u64,
    pub(crate) mean_ms: Option<f64>,
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p90_ms: Option<f64>,
    pub(crate) p95_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) max_ms: Option<f64>,
    /// Points (ms, fraction of times not above).
    pub(crate) curve: Vec<(f64, f64)>,
}

impl Distribution {
    fn of(histogram: &Histogram) -> Self {
        Self {
            count: histogram.count(),
            mean_ms: histogram.mean_ms(),
            p50_ms: histogram.percentile_ms(0.5),
            p90_ms: histogram.percentile_ms(0.9),
            p95_ms: histogram.percentile_ms(0.95),
            p99_ms: histogram.percentile_ms(0.99),
            max_ms: histogram.max_ms(),
            curve: histogram.distribution(CURVE_POINTS),
        }
    }

    /// p50, p90, p95, p99 and max.
    pub(crate) fn figures(&self) -> [Option<f64>; 5] {
        [self.p50_ms, self.p90_ms, self.p95_ms, self.p99_ms, self.max_ms]
    }
}

/// Requests that failed in one way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ErrorSummary {
    /// The HTTP status, if there was an answer.
    pub(crate) status: Option<u16>,
    pub(crate) kind: String,
    pub(crate) count: u64,
    /// One message.
    pub(crate) example: String,
}

/// How evenly the tenants were served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fairness {
    /// Jain's index of tokens in and out by weight, 1 at best; `None` without service or with one tenant only.
    pub(crate) index: Option<f64>,
    pub(crate) tenants: Vec<PartSummary>,
}

/// Sums over one tenant or adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PartSummary {
    pub(crate) name: String,
    /// Part of the load; `None` for adapters.
    pub(crate) share: Option<f64>,
    /// What it is entitled to; `None` for adapters.
    pub(crate) weight: Option<f64>,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    pub(crate) tokens_in_per_s: f64,
    pub(crate) tokens_out_per_s: f64,
    pub(crate) time_to_first_token_p50_ms: Option<f64>,
    pub(crate) time_to_first_token_p99_ms: Option<f64>,
    pub(crate) total_p50_ms: Option<f64>,
    pub(crate) total_p99_ms: Option<f64>,
}

/// One second of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Moment {
    /// Seconds since the measuring began.
    pub(crate) second: u64,
    pub(crate) tokens_out: f64,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    pub(crate) time_to_first_token_p50_ms: Option<f64>,
    pub(crate) time_to_first_token_max_ms: Option<f64>,
}

/// What was known before the run.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) name: String,
    pub(crate) started_at: String,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) machine: Machine,
    /// Name, share and weight of each.
    pub(crate) tenants: Vec<(String, f64, f64)>,
    pub(crate) adapters: Vec<String>,
}

impl Report {
    /// Whether anything was answered; a run without an answer measured nothing.
    pub fn has_answers(&self) -> bool {
        self.succeeded > 0
    }

    /// Sums up a record.
    pub(crate) fn new(setup: Setup, record: &Record, interrupted: bool, driver_cpu_share: Option<f64>) -> Self {
        let measured_s = record.measured().as_secs_f64();
        let rate = |amount: f64| if measured_s > 0.0 { amount / measured_s } else { 0.0 };
        let adapters = setup.adapters.iter().zip(&record.adapters);
        let adapters: Vec<PartSummary> = adapters.map(|(name, part)| PartSummary::of(name, None, part, rate)).collect();
        Self {
            schema: SCHEMA.to_owned(),
            name: setup.name,
            started_at: setup.started_at,
            settings: setup.settings,
            machine: setup.machine,
            measured_s,
            interrupted,
            driver_cpu_share,
            succeeded: record.all.succeeded,
            failed: record.all.failed,
            requests_per_s: rate(record.all.succeeded as f64),
            tokens_in_per_s: rate(record.all.tokens_in),
            tokens_out_per_s: rate(record.all.tokens_out),
            tokens_counted: TokensCounted { by_usage: record.counted_by_usage, by_chunks: record.counted_by_chunks },
            latency: Latencies {
                time_to_first_token: Distribution::of(&record.time_to_first_token),
                first_use_of_adapter: Distribution::of(&record.first_use),
                between_chunks: Distribution::of(&record.between_chunks),
                per_output_token: Distribution::of(&record.per_output_token),
                total: Distribution::of(&record.total),
                send_delay: Distribution::of(&record.send_delay),
            },
            errors: errors(record),
            fairness: Fairness::of(&setup.tenants, &record.tenants, rate),
            adapters: (!adapters.is_empty()).then_some(adapters),
            timeline: timeline(record, measured_s),
        }
    }
}

impl Fairness {
    fn of(tenants: &[(String, f64, f64)], parts: &[Part], rate: impl Fn(f64) -> f64) -> Self {
        let service: Vec<f64> = parts.iter().map(|part| part.tokens_in + part.tokens_out).collect();
        let weights: Vec<f64> = tenants.iter().map(|(_, _, weight)| *weight).collect();
        let index = if parts.len() > 1 { fairness_index(&service, &weights) } else { None };
        let summary = |((name, share, weight), part): (&(String, f64, f64), &Part)| {
            PartSummary::of(name, Some((*share, *weight)), part, &rate)
        };
        Self { index, tenants: tenants.iter().zip(parts).map(summary).collect() }
    }
}

impl PartSummary {
    fn of(name: &str, share_and_weight: Option<(f64, f64)>, part: &Part, rate: impl Fn(f64) -> f64) -> Self {
        Self {
            name: name.to_owned(),
            share: share_and_weight.map(|(share, _)| share),
            weight: share_and_weight.map(|(_, weight)| weight),
            succeeded: part.succeeded,
            failed: part.failed,
            tokens_in_per_s: rate(part.tokens_in),
            tokens_out_per_s: rate(part.tokens_out),
            time_to_first_token_p50_ms: part.time_to_first_token.percentile_ms(0.5),
            time_to_first_token_p99_ms: part.time_to_first_token.percentile_ms(0.99),
            total_p50_ms: part.total.percentile_ms(0.5),
            total_p99_ms: part.total.percentile_ms(0.99),
        }
    }
}

/// A failure in a few words.
pub(crate) fn failure_name(failure: &Failure) -> String {
    match failure.status {
        Some(status) => format!("{status} {}", failure.kind),
        None => failure.kind.clone(),
    }
}

/// The most frequent first.
fn errors(record: &Record) -> Vec<ErrorSummary> {
    let mut errors: Vec<ErrorSummary> = record
        .failures
        .iter()
        .map(|(failure, counted)| ErrorSummary {
            status: failure.status,
            kind: failure.kind.clone(),
            count: counted.count,
            example: counted.example.clone(),
        })
        .collect();
    errors.sort_by_key(|error| std::cmp::Reverse(error.count));
    errors
}

/// Whole seconds only: the rest of a second at the end would look like a collapse. A second in which nothing happened
/// is one too, above all at the end.
fn timeline(record: &Record, measured_s: f64) -> Vec<Moment> {
    let tokens_per_chunk = record.tokens_per_chunk();
    let quiet = Second::default();
    let moment = |second: usize| {
        let seen = record.seconds.get(second).unwrap_or(&quiet);
        Moment {
            second: second as u64,
            tokens_out: seen.chunks as f64 * tokens_per_chunk + seen.whole_tokens as f64,
            succeeded: seen.succeeded,
            failed: seen.failed,
            time_to_first_token_p50_ms: seen.time_to_first_token.percentile_ms(0.5),
            time_to_first_token_max_ms: seen.time_to_first_token.max_ms(),
        }
    };
    (0..(measured_s as usize).min(MAX_SECONDS)).map(moment).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::super::record::{Exchange, Received, Span};
    use super::super::sse::Usage;
    use super::super::workload::{AdapterIndex, TenantIndex};
    use super::*;

    /// The report of four answers, the second tenant's twice as long, and one failure.
    pub(crate) fn report() -> Report {
        let begin = Instant::now();
        let mut record = Record::new(Span { begin, end: Some(begin + Duration::from_secs(4)) }, 2, 2);
        for index in 0..5usize {
            let intended = begin + Duration::from_millis(600 * index as u64);
            let mut received = Received::default();
            let num_chunks = 10 * (1 + index as u64 % 2);
            (1..=num_chunks)
                .for_each(|chunk| record.chunk(&mut received, intended + Duration::from_millis(20 * chunk)));
            let failure = Failure { status: Some(503), kind: "no_node".to_owned() };
            record.finished(&Exchange {
                adapter: Some(AdapterIndex(index % 2)),
                is_first_use: index < 2,
                tenant: TenantIndex(index % 2),
                intended,
                sent: intended,
                finished: intended + Duration::from_millis(20 * num_chunks),
                received,
                usage: Some(Usage { prompt_tokens: 5, completion_tokens: num_chunks }),
                outcome: if index == 4 { Err((failure, "no node".to_owned())) } else { Ok(()) },
            });
        }
        let load = ("load".to_owned(), "closed loop, 1 users".to_owned());
        let endpoint = ("endpoint".to_owned(), "http://127.0.0.1:8080/v1/completions".to_owned());
        let setup = Setup {
            name: "sample".to_owned(),
            started_at: "2020-01-01T00:00:00Z".to_owned(),
            settings: vec![load, endpoint],
            machine: Machine { cpu: "a processor".to_owned(), num_cpus: 2, system: "linux".to_owned() },
            tenants: vec![("acme".to_owned(), 1.0, 1.0), ("beta".to_owned(), 3.0, 1.0)],
            adapters: vec!["acme/x".to_owned(), "acme/y".to_owned()],
        };
        Report::new(setup, &record, false, Some(0.02))
    }

    #[test]
    fn sums_are_rates_over_the_measured_span() {
        let report = report();
        assert_eq!((report.measured_s, report.succeeded, report.failed), (4.0, 4, 1));
        assert_eq!((report.requests_per_s, report.tokens_in_per_s, report.tokens_out_per_s), (1.0, 5.0, 15.0));
        // Services of 30 and 50 tokens: 80^2 / (2 * (900 + 2500)).
        assert!((report.fairness.index.unwrap() - 6400.0 / 6800.0).abs() < 1e-12);
        assert_eq!(report.latency.first_use_of_adapter.count, 2);
        assert_eq!(report.errors[0].status, Some(503));
        let adapters = report.adapters.as_ref().unwrap();
        assert_eq!((adapters[0].failed, adapters[1].tokens_out_per_s), (1, 10.0));
        let in_timeline: f64 = report.timeline.iter().map(|moment| moment.tokens_out).sum();
        // The failed answer's ten chunks came, though its tokens are not counted in the rates.
        assert_eq!((report.timeline.len(), in_timeline), (4, 70.0));
    }

    #[test]
    fn the_table_tells_every_part() {
        let lines = table::lines(&report()).join("\n");
        for text in ["15.0 tokens out", "time to first token", "503", "no_node", "fairness index", "beta", "acme/y"] {
            assert!(lines.contains(text), "{text}: {lines}");
        }
    }
}
