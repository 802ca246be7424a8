//! A report as lines of text.

use super::{Distribution, PartSummary, Report};

/// Lines to print.
pub fn lines(report: &Report) -> Vec<String> {
    let mut lines = vec![heading(report)];
    lines.extend(report.settings.iter().map(|(name, value)| format!("  {name:<10} {value}")));
    lines.push(String::new());
    lines.extend(throughput(report));
    lines.push(String::new());
    lines.extend(latencies(report));
    if !report.errors.is_empty() {
        lines.push(String::new());
        let rows = report.errors.iter().map(|error| {
            let status = error.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
            vec![error.kind.clone(), status, error.count.to_string(), error.example.clone()]
        });
        lines.extend(columns(&["errors", "status", "count", "for example"], rows.collect()));
    }
    if let Some(index) = report.fairness.index {
        lines.push(String::new());
        lines.push(format!("fairness index over tenants, by weight: {index:.3} (1 is even)"));
        lines.extend(parts("tenant", &report.fairness.tenants));
    }
    if let Some(adapters) = &report.adapters {
        lines.push(String::new());
        lines.extend(parts("adapter", adapters));
    }
    lines
}

/// Rows under a header, each column as wide as its longest cell; the first column to the left, numbers to the right.
pub(crate) fn columns(header: &[&str], rows: Vec<Vec<String>>) -> Vec<String> {
    let header: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    let all: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    let num_columns = all.iter().map(Vec::len).max().unwrap_or(0);
    let cell_width = |row: &Vec<String>, column: usize| row.get(column).map_or(0, |cell| cell.chars().count());
    let widths: Vec<usize> =
        (0..num_columns).map(|column| all.iter().map(|row| cell_width(row, column)).max().unwrap_or(0)).collect();
    let is_number = |column: usize| {
        let mut cells = all.iter().skip(1).filter_map(|row| row.get(column));
        cells.all(|cell| cell.starts_with(|first: char| first.is_ascii_digit()) || cell == "-")
    };
    let to_right: Vec<bool> = (0..num_columns).map(|column| column > 0 && is_number(column)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(column, cell)| match to_right[column] {
            true => format!("{cell:>width$}", width = widths[column]),
            false => format!("{cell:<width$}", width = widths[column]),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    all.iter().map(line).collect()
}

/// A time for people: three figures, or a dash.
pub(crate) fn milliseconds(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), number)
}

/// A number with as many places as it needs for about three figures.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Where the numbers of tokens come from.
pub(crate) fn token_source(report: &Report) -> String {
    let counted = report.tokens_counted;
    match (counted.by_usage, counted.by_chunks) {
        (0, 0) => "no answers".to_owned(),
        (_, 0) => "tokens as the server's usage says".to_owned(),
        (0, _) => "no usage from the server: chunks of text counted as tokens, prompts not counted".to_owned(),
        (usage, chunks) => format!("tokens as usage says in {usage} answers, chunks counted in {chunks}"),
    }
}

fn heading(report: &Report) -> String {
    let cpu = if report.machine.cpu.is_empty() { &report.machine.system } else { &report.machine.cpu };
    let note = if report.interrupted { ", interrupted" } else { "" };
    format!(
        "{}: {} s measured{note}, {} ({} x {cpu})",
        report.name,
        number(report.measured_s),
        report.started_at,
        report.machine.num_cpus
    )
}

fn throughput(report: &Report) -> Vec<String> {
    let mut lines = vec![
        format!("requests   {} answered, {} failed", report.succeeded, report.failed),
        format!("per second {} requests", number(report.requests_per_s)),
        format!(
            "           {} tokens in, {} tokens out ({})",
            number(report.tokens_in_per_s),
            number(report.tokens_out_per_s),
            token_source(report)
        ),
    ];
    if let Some(share) = report.driver_cpu_share {
        lines.push(format!("driver     {:.1} % of one processor", share * 100.0));
    }
    lines
}

fn latencies(report: &Report) -> Vec<String> {
    let named = report.latency.named();
    let rows = named.iter().filter(|(_, distribution)| distribution.count > 0).map(|(name, distribution)| {
        let Distribution { count, mean_ms, .. } = distribution;
        let mut row = vec![(*name).to_owned(), count.to_string(), milliseconds(*mean_ms)];
        row.extend(distribution.figures().map(milliseconds));
        row
    });
    columns(&["milliseconds", "count", "mean", "p50", "p90", "p95", "p99", "max"], rows.collect())
}

fn parts(title: &str, parts: &[PartSummary]) -> Vec<String> {
    let has_shares = parts.iter().any(|part| part.share.is_some());
    let mut header = vec![title];
    if has_shares {
        header.extend(["share", "weight"]);
    }
    header.extend(["answered", "failed", "in/s", "out/s", "ttft p50", "ttft p99", "total p50", "total p99"]);
    let rows = parts.iter().map(|part| {
        let mut row = vec![part.name.clone()];
        row.extend([part.share, part.weight].into_iter().flatten().map(|value| value.to_string()));
        row.extend([part.succeeded.to_string(), part.failed.to_string()]);
        row.extend([number(part.tokens_in_per_s), number(part.tokens_out_per_s)]);
        row.extend([part.time_to_first_token_p50_ms, part.time_to_first_token_p99_ms].map(milliseconds));
        row.extend([part.total_p50_ms, part.total_p99_ms].map(milliseconds));
        row
    });
    columns(&header, rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_under_each_other() {
        let rows = vec![vec!["a".to_owned(), "9.00".to_owned()], vec!["long".to_owned(), "100".to_owned()]];
        assert_eq!(columns(&["x", "p50"], rows), ["x      p50", "a     9.00", "long   100"]);
    }

    #[test]
    fn numbers_have_about_three_figures() {
        assert_eq!([1.234, 12.34, 123.4].map(number), ["1.23", "12.3", "123"]);
        assert_eq!(milliseconds(None), "-");
    }
}
