//! `souk migrate`: what the database's schema lacks, and making it.

use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Value, json};
use souk_registry::{Migration, schema_status, schema_up};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cli::{MigrateArgs, MigrateCommand};
use crate::config::Config;
use crate::terminal;

/// Of `status`: something is pending.
const PENDING: u8 = 3;
/// Of `status`: a newer program has changed the database.
const NEWER: u8 = 4;

pub(crate) async fn run(config: &Config, arguments: MigrateArgs) -> anyhow::Result<ExitCode> {
    let data_dir = arguments.data_dir.map_or_else(|| config.data.folder(), Ok)?;
    let registry = config.registry(data_dir);
    match arguments.command.unwrap_or(MigrateCommand::Status) {
        MigrateCommand::Status => {
            let states = schema_status(&registry).await.context("cannot tell how far the database is")?;
            show(&states, arguments.json)?;
            Ok(if states.iter().any(|state| state.kind.is_none()) {
                ExitCode::from(NEWER)
            } else if states.iter().any(|state| state.made_at_s.is_none()) {
                ExitCode::from(PENDING)
            } else {
                ExitCode::SUCCESS
            })
        }
        MigrateCommand::Up { dry_run } => {
            let pending = schema_up(&registry, dry_run).await.context("the database was not brought up to date")?;
            show(&pending, arguments.json)?;
            terminal::note(match (pending.is_empty(), dry_run) {
                (true, _) => "Nothing was pending.",
                (false, true) => "All of it would succeed. Nothing was changed.",
                (false, false) => "The database is up to date.",
            });
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn show(states: &[Migration], as_json: bool) -> anyhow::Result<()> {
    if as_json {
        let migrations: Vec<Value> = states.iter().map(to_json).collect();
        terminal::line(&serde_json::to_string_pretty(&json!({ "migrations": migrations }))?)?;
    } else {
        let row = |state: &Migration| {
            let made_at = made_at(state).unwrap_or_else(|| "pending".to_owned());
            vec![state.name.clone(), kind(state).to_owned(), made_at]
        };
        terminal::table(&["MIGRATION", "KIND", "MADE"], &states.iter().map(row).collect::<Vec<_>>())?;
    }
    Ok(())
}

fn to_json(state: &Migration) -> Value {
    json!({ "name": state.name, "kind": kind(state), "made_at": made_at(state) })
}

fn kind(state: &Migration) -> &'static str {
    state.kind.map_or("unknown", |kind| kind.as_str())
}

fn made_at(state: &Migration) -> Option<String> {
    let at = OffsetDateTime::from_unix_timestamp(state.made_at_s?).ok()?;
    at.format(&Rfc3339).ok()
}
