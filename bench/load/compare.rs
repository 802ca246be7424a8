//! Results of several runs beside each other.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use super::report::{Report, SCHEMA, table};

/// Lines that show each figure of the first file, and the others' with their ratio to it.
///
/// # Errors
/// If a file cannot be read or is not a result of this version.
pub fn compare(files: &[PathBuf]) -> anyhow::Result<Vec<String>> {
    let reports: Vec<Report> = files.iter().map(|file| read(file)).collect::<anyhow::Result<_>>()?;
    Ok(lines(&reports))
}

fn read(file: &Path) -> anyhow::Result<Report> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    parse(&bytes).with_context(|| format!("{} is not a result of `souk bench --json`", file.display()))
}

fn parse(bytes: &[u8]) -> anyhow::Result<Report> {
    #[derive(Deserialize)]
    struct Version {
        schema: String,
    }
    let version: Version = serde_json::from_slice(bytes)?;
    if version.schema != SCHEMA {
        bail!("its schema is {}; this version reads {SCHEMA}", version.schema);
    }
    Ok(serde_json::from_slice(bytes)?)
}

fn lines(reports: &[Report]) -> Vec<String> {
    let mut lines = differences(reports);
    let mut header = vec![""];
    header.extend(reports.iter().map(|report| report.name.as_str()));
    let figures: Vec<Vec<(String, Option<f64>)>> = reports.iter().map(figures).collect();
    let rows = (0..figures[0].len()).map(|row| {
        let (name, first) = &figures[0][row];
        let mut cells = vec![name.clone(), table::milliseconds(*first)];
        cells.extend(figures[1..].iter().map(|other| with_ratio(other[row].1, *first)));
        cells
    });
    lines.extend(table::columns(&header, rows.filter(|cells| cells[1..].iter().any(|cell| cell != "-")).collect()));
    lines
}

/// Settings in which the runs are not alike: who compares should know.
fn differences(reports: &[Report]) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, first) in &reports[0].settings {
        let value = |report: &Report| {
            let found = report.settings.iter().find(|(other, _)| other == name);
            found.map_or_else(|| "-".to_owned(), |(_, value)| value.clone())
        };
        if reports.iter().any(|report| value(report) != *first) {
            lines.extend(reports.iter().map(|report| format!("{name} of {}: {}", report.name, value(report))));
        }
    }
    if !lines.is_empty() {
        lines.push(String::new());
    }
    lines
}

/// Every figure with its name; the same names in the same order for every report.
fn figures(report: &Report) -> Vec<(String, Option<f64>)> {
    let named = |name: &str, value: f64| (name.to_owned(), Some(value));
    let mut figures = vec![
        named("requests/s", report.requests_per_s),
        named("tokens in/s", report.tokens_in_per_s),
        named("tokens out/s", report.tokens_out_per_s),
        named("failed, per cent", failed_per_cent(report)),
        ("fairness index".to_owned(), report.fairness.index),
    ];
    for (name, distribution) in report.latency.named() {
        let percentiles = ["p50", "p90", "p95", "p99", "max"].into_iter().zip(distribution.figures());
        figures.extend(percentiles.map(|(percentile, value)| (format!("{} {percentile} ms", name.trim()), value)));
    }
    figures
}

fn failed_per_cent(report: &Report) -> f64 {
    let ended = report.failed + report.succeeded;
    if ended == 0 { 0.0 } else { report.failed as f64 / ended as f64 * 100.0 }
}

fn with_ratio(value: Option<f64>, first: Option<f64>) -> String {
    match (value, first) {
        (Some(value), Some(first)) if first != 0.0 => {
            format!("{} (x{})", table::number(value), table::number(value / first))
        }
        (value, _) => table::milliseconds(value),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::report::tests::report;

    #[test]
    fn figures_are_shown_as_ratios_to_the_first() {
        let first = report();
        let mut second =
            Report { name: "other".to_owned(), tokens_out_per_s: first.tokens_out_per_s * 2.0, ..report() };
        second.settings[0].1 = "closed loop, 2 users".to_owned();
        let lines = lines(&[first, second]);
        assert!(lines.iter().any(|line| line.starts_with("tokens out/s") && line.ends_with("(x2.00)")), "{lines:#?}");
        assert!(lines.contains(&"load of other: closed loop, 2 users".to_owned()), "{lines:#?}");
    }

    #[test]
    fn a_written_result_is_read_back() {
        let (written, read) = (report(), parse(&serde_json::to_vec_pretty(&report()).unwrap()).unwrap());
        // The last bit of a number with many digits may differ, so figures are compared as they are shown.
        assert_eq!(lines(std::slice::from_ref(&read)), lines(std::slice::from_ref(&written)));
        assert_eq!((read.latency, read.timeline), (written.latency, written.timeline));
        assert_eq!((read.errors, read.adapters), (written.errors, written.adapters));
    }

    #[test]
    fn another_version_is_refused_by_name() {
        let error = parse(br#"{"schema":"souk-bench/9"}"#).unwrap_err().to_string();
        assert!(error.contains("souk-bench/9") && error.contains(SCHEMA), "{error}");
    }

    proptest! {
        #[test]
        fn damaged_results_are_refused_or_shown(cut in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut written = serde_json::to_vec(&report()).unwrap();
            let place = cut.index(written.len());
            written[place] = byte;
            if let Ok(damaged) = parse(&written) {
                prop_assert!(!lines(&[report(), damaged]).is_empty());
            }
            prop_assert!(parse(&written[..place]).is_err());
        }
    }
}
