//! `souk bench`: put a load on a server and report; `souk bench fleet`: simulate routing and report.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use indicatif::ProgressBar;
use souk_bench::fleet::{self, FleetArgs};
use souk_bench::{Report, Server};

use crate::cli::{BenchCommand, LoadArgs, Simulate};
use crate::terminal;

pub(crate) async fn run(BenchCommand { instead, load }: BenchCommand) -> anyhow::Result<ExitCode> {
    match instead {
        Some(Simulate::Fleet(arguments)) => simulate(arguments).await,
        None => put_a_load(load).await,
    }
}

async fn simulate(arguments: FleetArgs) -> anyhow::Result<ExitCode> {
    let json = arguments.json.clone();
    let report =
        tokio::task::spawn_blocking(move || fleet::run(&arguments)).await.context("the simulation panicked")?;
    fleet::lines(&report).iter().try_for_each(|line| terminal::line(line))?;
    if let Some(file) = json {
        write(&file, &(serde_json::to_string(&report).context("the report does not fit JSON")? + "\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn put_a_load(LoadArgs { server, load: arguments }: LoadArgs) -> anyhow::Result<ExitCode> {
    if !arguments.compare.is_empty() {
        souk_bench::compare(&arguments.compare)?.iter().try_for_each(|line| terminal::line(line))?;
        return Ok(ExitCode::SUCCESS);
    }
    let interrupt = async {
        // Without a handler Ctrl-C ends the process, which is all that can be done then.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let bar = Bar::new();
    let server = Server { url: server.url, api_key: server.api_key };
    let report = souk_bench::run(&server, &arguments, interrupt, &bar).await?;
    bar.0.finish_and_clear();
    souk_bench::lines(&report).iter().try_for_each(|line| terminal::line(line))?;
    write_files(&arguments, &report)?;
    Ok(if report.has_answers() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn write_files(arguments: &souk_bench::BenchArgs, report: &Report) -> anyhow::Result<()> {
    if let Some(file) = &arguments.json {
        let mut text = serde_json::to_string(report).context("the report does not fit JSON")?;
        text.push('\n');
        write(file, &text)?;
    }
    if let Some(file) = &arguments.html {
        write(file, &souk_bench::page(report))?;
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// The progress line; hidden where nobody looks.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let is_hidden = !std::io::stderr().is_terminal();
        Self(if is_hidden { ProgressBar::hidden() } else { ProgressBar::new_spinner() })
    }
}

impl souk_bench::Watch for Bar {
    fn says(&self, text: &str) {
        self.0.set_message(text.to_owned());
        self.0.tick();
    }
}
