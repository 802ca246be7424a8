//! `souk check`: compares the database with the object store, and the sums of usage with their rows, on the server's own host.

use std::process::ExitCode;

use anyhow::Context as _;
use serde::Serialize;
use souk_registry::{CheckOptions, CheckReport, DifferentSum, FoundBlob, UsageCheck, check_objects, check_usage};

use crate::cli::CheckArgs;
use crate::config::Config;
use crate::{telemetry, terminal};

/// The exit code where something is wrong: 1 says that nothing could be compared, 2 that the arguments are wrong.
const FOUND: u8 = 3;

pub(crate) async fn run(config: &Config, arguments: CheckArgs) -> anyhow::Result<ExitCode> {
    telemetry::start_logging(config)?;
    let data_dir = arguments.data_dir.map_or_else(|| config.data.folder(), Ok)?;
    let registry = config.registry(data_dir);
    let options = CheckOptions { deep: arguments.deep, repair: arguments.repair };
    let report = check_objects(&registry, options).await.context("database and objects cannot be compared")?;
    let usage = check_usage(&registry, arguments.repair).await.context("sums of usage cannot be compared with rows")?;
    let is_clean = report.is_clean() && usage.is_clean();
    if arguments.json {
        terminal::line(&serde_json::to_string_pretty(&Both { objects: report, usage })?)?;
    } else {
        show(&report, options)?;
        show_usage(&usage, options)?;
    }
    Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::from(FOUND) })
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Both {
    #[serde(flatten)]
    objects: CheckReport,
    usage: UsageCheck,
}

fn show_usage(found: &UsageCheck, options: CheckOptions) -> anyhow::Result<()> {
    let row = |sum: &DifferentSum| {
        let DifferentSum { tenant, period, of, sum, kept, counted } = sum.clone();
        vec![tenant, period, of, sum, kept.to_string(), counted.to_string()]
    };
    if !found.different.is_empty() {
        let rows: Vec<_> = found.different.iter().map(row).collect();
        terminal::table(&["TENANT", "PERIOD", "OF", "SUM", "KEPT", "COUNTED"], &rows)?;
    }
    terminal::note(&format!(
        "{} rows of usage on {} days counted, {} days whose rows are kept no longer: {} different sums",
        found.num_rows,
        found.num_days,
        found.num_closed_days,
        found.different.len()
    ));
    if options.repair {
        terminal::note(&format!("{} sums put right", found.num_repaired));
    }
    Ok(())
}

fn show(report: &CheckReport, options: CheckOptions) -> anyhow::Result<()> {
    let kinds = [
        ("missing", &report.missing),
        ("wrong size", &report.wrong_size),
        ("wrong digest", &report.wrong_digest),
        ("orphan", &report.orphans),
    ];
    let rows: Vec<_> = kinds.iter().flat_map(|(kind, found)| found.iter().map(|blob| row(kind, blob))).collect();
    if !rows.is_empty() {
        terminal::table(&["WHAT", "OBJECT", "BYTES", "EXPECTED", "VERSIONS"], &rows)?;
    }
    let looked = if options.deep { "read" } else { "listed" };
    let counts: Vec<_> = kinds.iter().map(|(kind, found)| format!("{} {kind}", found.len())).collect();
    terminal::note(&format!(
        "{} objects with {} bytes {looked}: {}",
        report.num_objects,
        report.size_bytes,
        counts.join(", ")
    ));
    if options.repair {
        terminal::note(&format!(
            "{} damaged objects put aside, {} orphans noted",
            report.num_quarantined, report.num_noted
        ));
    }
    if !report.missing.is_empty() || report.num_quarantined > 0 {
        terminal::note("Restore what is missing from a backup of the objects, or publish the same files again.");
    }
    Ok(())
}

fn row(kind: &str, blob: &FoundBlob) -> Vec<String> {
    let size = blob.size_bytes.map(|size| size.to_string()).unwrap_or_default();
    let expected = blob.expected.clone().unwrap_or_default();
    vec![kind.to_owned(), blob.digest.clone(), size, expected, blob.versions.join(", ")]
}
