//! `souk hook test`: runs recorded cases, and shows what comes out otherwise.

use std::process::ExitCode;

use anyhow::Context as _;
use souk_plugins::HookError;
use souk_plugins::cases::{Case, Ran};

use super::tried::{Recorded, Tried, shown};
use crate::cli::TriedArgs;
use crate::terminal;

/// Runs the cases of a hook.
pub(super) async fn test(arguments: &TriedArgs, bless: bool) -> anyhow::Result<ExitCode> {
    let tried = Tried::load(arguments).await?;
    let mut rows = Vec::new();
    let mut told = Vec::new();
    let mut others = 0;
    for recorded in &tried.cases {
        let ran = recorded.case.run(&tried.hook, &tried.context).await;
        let (outcome, is_as_recorded) = outcome(recorded, &ran, bless)?;
        others += usize::from(!is_as_recorded);
        rows.push(row(recorded, outcome, &ran));
        match &ran {
            Ok(ran) if !is_as_recorded => told.push(difference(&recorded.name, &recorded.case, &ran.case)?),
            Ok(ran) => {
                told.extend(ran.measured.lines.iter().map(|line| format!("{}: {}", recorded.name, line.message)));
            }
            Err(error) => told.push(failure(&recorded.name, error)),
        }
    }
    terminal::table(&["CASE", "OUTCOME", "FUEL", "PEAK KiB", "HOST CALLS"], &rows)?;
    for text in told {
        terminal::line(&text)?;
    }
    terminal::line(&shown(&tried.report, tried.tier))?;
    Ok(if others == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is said of a case, and whether it is well.
fn outcome(recorded: &Recorded, ran: &Result<Ran, HookError>, bless: bool) -> anyhow::Result<(&'static str, bool)> {
    Ok(match ran {
        Err(_) => ("failed", false),
        Ok(ran) if ran.is_as(&recorded.case) => ("as recorded", true),
        Ok(ran) if bless => {
            let mut text = serde_json::to_string_pretty(&ran.case)?;
            text.push('\n');
            std::fs::write(&recorded.path, text)
                .with_context(|| format!("cannot write {}", recorded.path.display()))?;
            ("recorded", true)
        }
        Ok(_) => ("differs", false),
    })
}

fn row(recorded: &Recorded, outcome: &str, ran: &Result<Ran, HookError>) -> Vec<String> {
    let measured = ran.as_ref().map_or_else(|error| &*error.measured, |ran| &ran.measured);
    vec![
        recorded.name.clone(),
        outcome.to_owned(),
        measured.fuel.to_string(),
        measured.peak_memory_bytes.div_ceil(1024).to_string(),
        measured.num_host_calls.to_string(),
    ]
}

fn failure(name: &str, error: &HookError) -> String {
    let detail = error.detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default();
    let lines: String = error.measured.lines.iter().map(|line| format!("\n  {}", line.message)).collect();
    format!("{name}: {error}{detail}{lines}")
}

/// Lines of the one that the other has not, and the other way round, with a line before and after.
fn difference(name: &str, recorded: &Case, ran: &Case) -> anyhow::Result<String> {
    let (old, new) = (serde_json::to_string_pretty(recorded)?, serde_json::to_string_pretty(ran)?);
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    let same = |lines: (&&str, &&str)| lines.0 == lines.1;
    let before = old.iter().zip(&new).take_while(|lines| same(*lines)).count();
    let most = old.len().min(new.len()) - before;
    let after = old.iter().rev().zip(new.iter().rev()).take(most).take_while(|lines| same(*lines)).count();
    let mut text = format!("{name}: {}", recorded.about);
    let mut add = |mark: &str, line: &str| text.extend(["\n", mark, " ", line]);
    let context = before.saturating_sub(1);
    old[context..before].iter().for_each(|line| add(" ", line));
    old[before..old.len() - after].iter().for_each(|line| add("-", line));
    new[before..new.len() - after].iter().for_each(|line| add("+", line));
    old[old.len() - after..].iter().take(1).for_each(|line| add(" ", line));
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_differs_is_shown() {
        let case = |text: &str| -> Case {
            let answer = json!({"answer": {"text": "x"}, "outcome": {"replaced": text}});
            serde_json::from_value(json!({"about": "It shouts.", "answer": answer})).unwrap()
        };
        let shown = difference("shouts", &case("a"), &case("A")).unwrap();
        let lines: Vec<_> = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[0], "shouts: It shouts.");
        assert!(
            lines.contains(&"- \"replaced\": \"a\"".to_owned()) && lines.contains(&"+ \"replaced\": \"A\"".to_owned())
        );
        assert_eq!(lines.len(), 5, "{shown}");
    }
}
