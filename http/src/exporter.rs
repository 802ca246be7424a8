//! The exporter of a process' figures in Prometheus' text format, and the buckets of their histograms. Each crate
//! describes the figures that it owns.

use std::time::Duration;

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// How often observed values are put into their buckets. Until then each takes memory of its own, also while nobody
/// reads the figures: at 10,000 values a second they are 400 KiB.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Bounds of the buckets of figures in seconds: six to a decade, from 1 ms, a fast step, to 700 s, more than a request
/// may take.
const SECONDS: [f64; 36] = [
    0.001, 0.0015, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0,
    1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 50.0, 70.0, 100.0, 150.0, 200.0, 300.0, 500.0, 700.0,
];

/// The figure of what the stages of a request take, most of which are far below a millisecond.
const STAGE_SECONDS: &str = "souk_gateway_stage_seconds";

/// Bounds of its buckets: from 10 µs, twelve to the first millisecond, and then coarser ones up to 10 s.
const STAGES: [f64; 22] = [
    0.00001, 0.00002, 0.00003, 0.00005, 0.00007, 0.0001, 0.00015, 0.0002, 0.0003, 0.0005, 0.0007, 0.001, 0.002, 0.005, 0.01,
    0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0,
];

/// Bounds of the buckets of figures in token rows: from one to the most that a step may have.
const ROWS: [f64; 13] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0];

/// Renders the figures of this process. Clones are the same exporter.
#[derive(Clone, Debug)]
pub struct Exporter(PrometheusHandle);

impl Exporter {
    /// Takes up the figures of this process from now on: once in a process, before anything counts.
    ///
    /// # Errors
    /// [`BuildError`] if the process has an exporter.
    pub fn install() -> Result<Self, BuildError> {
        PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
            .set_buckets_for_metric(Matcher::Full(STAGE_SECONDS.to_owned()), &STAGES)?
            .set_buckets_for_metric(Matcher::Suffix("_rows".to_owned()), &ROWS)?
            .install_recorder()
            .map(Self)
    }

    /// Puts observed values into their buckets now and then, for ever. Run it beside whatever counts.
    pub async fn keep_up(self) {
        loop {
            tokio::time::sleep(UPKEEP_EVERY).await;
            self.0.run_upkeep();
        }
    }

    /// The figures as they are now.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.run_upkeep();
        self.0.render()
    }

    /// The figures as an answer.
    #[must_use]
    pub fn answer(&self) -> Response {
        ([(CONTENT_TYPE, "text/plain; version=0.0.4")], self.render()).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_grow() {
        assert!([&SECONDS[..], &STAGES, &ROWS].iter().all(|bounds| bounds.is_sorted_by(|less, more| less < more)));
    }

    #[test]
    fn seconds_and_rows_are_histograms_and_other_suffixes_leave_them_alone() {
        let exporter = Exporter::install().unwrap();
        assert!(Exporter::install().is_err(), "a process has one exporter");
        metrics::describe_histogram!("test_wait_seconds", "How long a test waits.");
        metrics::histogram!("test_wait_seconds").record(0.004);
        metrics::histogram!("test_step_rows").record(3.0);
        metrics::counter!("test_steps_total").increment(2);
        metrics::histogram!(STAGE_SECONDS, "stage" => "reserve").record(0.00012);
        let text = exporter.render();
        for line in [
            "# HELP test_wait_seconds How long a test waits.",
            "test_wait_seconds_bucket{le=\"0.003\"} 0",
            "test_wait_seconds_bucket{le=\"0.005\"} 1",
            "test_step_rows_bucket{le=\"4\"} 1",
            "test_steps_total 2",
            "souk_gateway_stage_seconds_bucket{stage=\"reserve\",le=\"0.00015\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
    }
}
