//! `souk hook bench`: what the recorded cases of a hook take.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::tried::{Tried, shown};
use crate::cli::TriedArgs;
use crate::terminal;

/// Runs each case again and again for some seconds.
pub(super) async fn bench(arguments: &TriedArgs, seconds: u64) -> anyhow::Result<()> {
    let tried = Tried::load(arguments).await?;
    let mut rows = Vec::new();
    for recorded in &tried.cases {
        let mut taken = Vec::new();
        let mut fuel = 0;
        let began = Instant::now();
        while taken.is_empty() || began.elapsed() < Duration::from_secs(seconds) {
            let ran = recorded.case.run(&tried.hook, &tried.context).await;
            let measured = ran.with_context(|| format!("{} failed", recorded.name))?.measured;
            fuel = measured.fuel;
            taken.push(measured.processor);
        }
        taken.sort_unstable();
        let microseconds = |share: usize| (taken[(taken.len() - 1) * share / 100].as_nanos() / 1000).to_string();
        rows.push(vec![
            recorded.name.clone(),
            taken.len().to_string(),
            microseconds(50),
            microseconds(99),
            fuel.to_string(),
        ]);
    }
    terminal::table(&["CASE", "RUNS", "P50 µs", "P99 µs", "FUEL"], &rows)?;
    terminal::line("Processor time of all calls of a case together, each in an instance of its own; a stream is one.")?;
    terminal::line(&format!("{}; compiled in {} ms", shown(&tried.report, tried.tier), tried.compiling.as_millis()))?;
    Ok(())
}
