//! `souk bench`: put a load on a server and report.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use indicatif::ProgressBar;
use tokio::time::Instant;

use crate::bench;
use crate::bench::arguments::BenchArgs;
use crate::bench::record::Record;
use crate::bench::report::{Report, html, table};
use crate::terminal;

pub(crate) async fn run(arguments: BenchArgs) -> anyhow::Result<ExitCode> {
    if !arguments.compare.is_empty() {
        bench::compare(&arguments.compare)?.iter().try_for_each(|line| terminal::line(line))?;
        return Ok(ExitCode::SUCCESS);
    }
    let interrupt = async {
        // Without a handler Ctrl-C ends the process, which is all that can be done then.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let bar = Bar::new();
    let report = bench::run(&arguments, interrupt, &bar).await?;
    bar.bar.finish_and_clear();
    table::lines(&report).iter().try_for_each(|line| terminal::line(line))?;
    write_files(&arguments, &report)?;
    // A run in which nothing was answered measured nothing.
    Ok(if report.succeeded > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn write_files(arguments: &BenchArgs, report: &Report) -> anyhow::Result<()> {
    if let Some(file) = &arguments.json {
        let mut text = serde_json::to_string(report).context("the report does not fit JSON")?;
        text.push('\n');
        write(file, &text)?;
    }
    if let Some(file) = &arguments.html {
        write(file, &html::page(report))?;
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// The progress line; hidden where nobody looks.
struct Bar {
    bar: ProgressBar,
    is_hidden: bool,
}

impl Bar {
    fn new() -> Self {
        let is_hidden = !std::io::stderr().is_terminal();
        Self { bar: if is_hidden { ProgressBar::hidden() } else { ProgressBar::new_spinner() }, is_hidden }
    }
}

impl bench::Watch for Bar {
    fn phase(&self, text: &str) {
        self.bar.set_message(text.to_owned());
        self.bar.tick();
    }

    fn progress(&self, record: &Record) {
        if self.is_hidden {
            return;
        }
        self.bar.set_message(progress_text(record, Instant::now()));
        self.bar.tick();
    }
}

fn progress_text(record: &Record, now: Instant) -> String {
    let span = record.span;
    if now < span.begin {
        return format!("warm-up, {} s left", (span.begin - now).as_secs() + 1);
    }
    let elapsed = now - span.begin;
    let time = match span.end.map(|end| end - span.begin) {
        Some(length) if elapsed > length => "waiting for the last answers".to_owned(),
        Some(length) => format!("{} of {} s", elapsed.as_secs(), length.as_secs()),
        None => format!("{} s", elapsed.as_secs()),
    };
    let per_second = record.all.tokens_out / elapsed.max(Duration::from_millis(1)).as_secs_f64();
    let failed = record.all.failed;
    format!("{time}, {} answered, {failed} failed, {per_second:.0} tokens/s", record.all.succeeded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::record::Span;

    #[test]
    fn progress_tells_the_phase() {
        let begin = Instant::now() + Duration::from_secs(10);
        let record = Record::new(Span { begin, end: Some(begin + Duration::from_secs(5)) }, 1, 0);
        let at = |seconds: u64| progress_text(&record, begin + Duration::from_secs(seconds));
        assert_eq!(progress_text(&record, begin - Duration::from_millis(500)), "warm-up, 1 s left");
        assert_eq!(at(2), "2 of 5 s, 0 answered, 0 failed, 0 tokens/s");
        assert!(at(6).starts_with("waiting for the last answers"));
    }
}
