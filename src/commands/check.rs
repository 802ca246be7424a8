//! `souk check`: compares the database with the object store, on the server's own host.

use std::process::ExitCode;

use anyhow::Context as _;
use souk_registry::{CheckOptions, CheckReport, FoundBlob, check_objects};

use crate::cli::CheckArgs;
use crate::config::Config;
use crate::{telemetry, terminal};

/// The exit code where something is wrong: 1 says that nothing could be compared, 2 that the arguments are wrong.
const FOUND: u8 = 3;

pub(crate) async fn run(config: &Config, arguments: CheckArgs) -> anyhow::Result<ExitCode> {
    telemetry::start_logging(config)?;
    let data_dir = arguments.data_dir.map_or_else(|| config.data_dir(), Ok)?;
    let registry = config.registry(data_dir);
    let options = CheckOptions { deep: arguments.deep, repair: arguments.repair };
    let report = check_objects(&registry, options).await.context("database and objects cannot be compared")?;
    if arguments.json {
        terminal::line(&serde_json::to_string_pretty(&report)?)?;
    } else {
        show(&report, options)?;
    }
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(FOUND) })
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
