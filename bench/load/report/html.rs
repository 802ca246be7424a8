//! A report as one HTML page that needs nothing else: no script, no font, no picture from elsewhere.

use std::fmt::Write as _;

use super::markup::escape;
use super::plot::{Plot, Scale, Series};
use super::table::{milliseconds, number, token_source};
use super::{Distribution, Moment, PartSummary, Report};

const STYLE: &str = include_str!("page.css");

/// The page.
pub fn page(report: &Report) -> String {
    let name = escape(&report.name);
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <title>{name} - souk bench</title><style>{STYLE}</style></head><body><main><h1>{name}</h1>"
    );
    text.push_str(&subtitle(report));
    text.push_str(&tiles(report));
    text.push_str("<h2>Latency</h2>");
    text.push_str(&latency_table(report));
    for plot in plots(report) {
        text.push_str(&plot.html());
    }
    text.push_str(&errors(report));
    text.push_str(&fairness(report));
    if let Some(adapters) = &report.adapters {
        let _ = write!(text, "<h2>Adapters</h2>{}", parts("adapter", adapters));
    }
    text.push_str(&settings(report));
    text.push_str("</main></body></html>\n");
    text
}

fn subtitle(report: &Report) -> String {
    let cpu = if report.machine.cpu.is_empty() { &report.machine.system } else { &report.machine.cpu };
    let interrupted = if report.interrupted { ", interrupted by hand" } else { "" };
    format!(
        "<p class=\"subtitle\">{} &middot; {} s measured{interrupted} &middot; {} &times; {}</p>",
        escape(&report.started_at),
        number(report.measured_s),
        report.machine.num_cpus,
        escape(cpu)
    )
}

fn tiles(report: &Report) -> String {
    let ttft = &report.latency.time_to_first_token;
    let mut tiles = vec![
        ("tokens out per second", number(report.tokens_out_per_s)),
        ("tokens in per second", number(report.tokens_in_per_s)),
        ("requests per second", number(report.requests_per_s)),
        ("ms to first token, p50", milliseconds(ttft.p50_ms)),
        ("ms to first token, p99", milliseconds(ttft.p99_ms)),
        ("ms between chunks, p99", milliseconds(report.latency.between_chunks.p99_ms)),
        ("answered", report.succeeded.to_string()),
        ("failed", report.failed.to_string()),
    ];
    if let Some(index) = report.fairness.index {
        tiles.push(("fairness index", format!("{index:.3}")));
    }
    if let Some(share) = report.driver_cpu_share {
        tiles.push(("of one processor for the driver", format!("{:.1} %", share * 100.0)));
    }
    let mut text = "<div class=\"tiles\">".to_owned();
    for (label, value) in tiles {
        let _ = write!(text, "<div><b>{value}</b><span>{label}</span></div>");
    }
    let _ = write!(text, "</div><p class=\"note\">Counted: {}.</p>", token_source(report));
    text
}

fn latency_table(report: &Report) -> String {
    let named = report.latency.named();
    let rows = named.iter().filter(|(_, distribution)| distribution.count > 0).map(|(name, distribution)| {
        let Distribution { count, mean_ms, .. } = distribution;
        let mut row = vec![name.trim().to_owned(), count.to_string(), milliseconds(*mean_ms)];
        row.extend(distribution.figures().map(milliseconds));
        row
    });
    table(&["milliseconds", "count", "mean", "p50", "p90", "p95", "p99", "max"], 1, rows)
}

fn plots(report: &Report) -> [Plot; 3] {
    let curves = report.latency.named().into_iter().filter(|(name, _)| !name.starts_with("driver"));
    let curve = |(name, distribution): (&str, &Distribution)| Series {
        name: name.trim().to_owned(),
        points: distribution.curve.iter().map(|(ms, fraction)| (*ms, fraction * 100.0)).collect(),
        steps: true,
    };
    let over_time = |name: &str, steps, value: fn(&Moment) -> Option<f64>| Series {
        name: name.to_owned(),
        points: report.timeline.iter().filter_map(|moment| Some((moment.second as f64, value(moment)?))).collect(),
        steps,
    };
    [
        Plot {
            title: "Latency: how many per cent were at most so long",
            x_label: "milliseconds",
            y_label: "per cent",
            x_scale: Scale::Logarithmic,
            series: curves.map(curve).collect(),
        },
        Plot {
            title: "Tokens out per second over time",
            x_label: "seconds since the measuring began",
            y_label: "tokens/s",
            x_scale: Scale::Linear,
            series: vec![over_time("tokens out", true, |moment| Some(moment.tokens_out))],
        },
        Plot {
            title: "Time to first token over time, of the requests of each second",
            x_label: "seconds since the measuring began",
            y_label: "milliseconds",
            x_scale: Scale::Linear,
            series: vec![
                over_time("median", false, |moment| moment.time_to_first_token_p50_ms),
                over_time("longest", false, |moment| moment.time_to_first_token_max_ms),
            ],
        },
    ]
}

fn errors(report: &Report) -> String {
    if report.errors.is_empty() {
        return String::new();
    }
    let rows = report.errors.iter().map(|error| {
        let status = error.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
        vec![error.kind.clone(), error.example.clone(), status, error.count.to_string()]
    });
    format!("<h2>Errors</h2>{}", table(&["kind", "for example", "status", "count"], 2, rows))
}

fn fairness(report: &Report) -> String {
    let Some(index) = report.fairness.index else { return String::new() };
    format!(
        "<h2>Tenants</h2><p>Jain's fairness index of tokens in and out by weight: <b>{index:.3}</b> (1 is even, {:.3} \
         if one got everything). It judges the server only while every tenant has requests waiting.</p>{}",
        1.0 / report.fairness.tenants.len() as f64,
        parts("tenant", &report.fairness.tenants)
    )
}

fn parts(title: &str, parts: &[PartSummary]) -> String {
    let has_shares = parts.iter().any(|part| part.share.is_some());
    let mut header = vec![title];
    if has_shares {
        header.extend(["share", "weight"]);
    }
    header.extend(["answered", "failed", "tokens in/s", "tokens out/s"]);
    header.extend(["first token p50", "first token p99", "total p50", "total p99"]);
    let rows = parts.iter().map(|part| {
        let mut row = vec![part.name.clone()];
        row.extend([part.share, part.weight].into_iter().flatten().map(|value| value.to_string()));
        row.extend([part.succeeded.to_string(), part.failed.to_string()]);
        row.extend([number(part.tokens_in_per_s), number(part.tokens_out_per_s)]);
        row.extend([part.time_to_first_token_p50_ms, part.time_to_first_token_p99_ms].map(milliseconds));
        row.extend([part.total_p50_ms, part.total_p99_ms].map(milliseconds));
        row
    });
    table(&header, 1, rows)
}

fn settings(report: &Report) -> String {
    let rows = report.settings.iter().map(|(name, value)| vec![name.clone(), value.clone()]);
    format!("<h2>How it was run</h2>{}", table(&["", ""], 2, rows))
}

/// A table whose first `num_text_columns` columns are text; the others are numbers, set to the right.
fn table(header: &[&str], num_text_columns: usize, rows: impl Iterator<Item = Vec<String>>) -> String {
    let class = |column: usize| if column < num_text_columns { "" } else { " class=\"n\"" };
    let mut text = "<div class=\"wide\"><table><thead><tr>".to_owned();
    for (column, cell) in header.iter().enumerate() {
        let _ = write!(text, "<th{}>{}</th>", class(column), escape(cell));
    }
    text.push_str("</tr></thead><tbody>");
    for row in rows {
        text.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let _ = write!(text, "<td{}>{}</td>", class(column), escape(cell));
        }
        text.push_str("</tr>");
    }
    text.push_str("</tbody></table></div>");
    text
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let page = page(&report());
        for word in ["<script", "src=", "href=", "url(", "@import", "http://", "https://"] {
            let without_settings = page.replace("http://127.0.0.1:8080/v1/completions", "");
            assert!(!without_settings.contains(word), "{word}");
        }
        assert!(page.contains("prefers-color-scheme: dark"));
        assert_eq!(page.matches("<svg").count(), 3);
    }

    #[test]
    fn names_cannot_add_markup() {
        let mut report = report();
        report.name = "<img src=x onerror=\"alert(1)\">".to_owned();
        report.errors[0].example = "<b>'".to_owned();
        let page = page(&report);
        assert!(!page.contains("<img") && page.contains("&lt;b&gt;&#39;"));
    }
}
