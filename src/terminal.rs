//! What the commands print: results on standard output, everything else on standard error, colour and bars only where
//! a person looks.

#![expect(clippy::print_stderr, reason = "this module is where the executable prints")]

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use souk_models::base::{LoadProgress, Stage};

/// Prints a result line.
///
/// # Errors
/// What standard output says: a reader that has seen enough closes the pipe ([`is_closed_pipe`]).
pub(crate) fn line(text: &str) -> io::Result<()> {
    writeln!(Output(io::stdout()), "{text}")
}

/// Prints a result as JSON.
///
/// # Errors
/// As [`line`].
pub(crate) fn json(value: &impl serde::Serialize) -> io::Result<()> {
    line(&serde_json::to_string_pretty(value)?)
}

/// Prints part of a line at once, for text that streams in.
///
/// # Errors
/// As [`line`].
pub(crate) fn fragment(text: &str) -> io::Result<()> {
    let mut output = output();
    output.write_all(text.as_bytes())?;
    output.flush()
}

/// Standard output, for results that are written piece by piece.
pub(crate) fn output() -> impl io::Write {
    Output(io::stdout())
}

/// Standard output, whose end is told from that of any other pipe or connection.
struct Output<W>(W);

impl<W: io::Write> io::Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(marked)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(marked)
    }
}

/// Nobody reads standard output any more.
#[derive(Debug)]
struct NobodyReads;

impl fmt::Display for NobodyReads {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("nobody reads standard output any more")
    }
}

impl std::error::Error for NobodyReads {}

fn marked(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::BrokenPipe { io::Error::new(error.kind(), NobodyReads) } else { error }
}

/// Whether a command failed only because nobody reads its output any more (`souk chat … | head -n 1`). A connection that
/// broke is no such end, though the system gives it the same name.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let errors = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()?.get_ref());
    errors.into_iter().any(|inner| inner.is::<NobodyReads>())
}

/// Prints a remark about progress, not part of the result.
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}

/// Prints an error with its causes.
pub(crate) fn error(error: &anyhow::Error) {
    let label = if io::stderr().is_terminal() { "\u{1b}[1;31merror\u{1b}[0m" } else { "error" };
    eprintln!("{label}: {error}");
    let mut last = error.to_string();
    for cause in error.chain().skip(1) {
        let text = cause.to_string();
        // Library errors often repeat their source in their own text.
        if !last.contains(&text) {
            eprintln!("  because: {text}");
        }
        last = text;
    }
}

/// A bar over a known number of bytes; hidden when standard error is not a terminal.
pub(crate) fn byte_bar(message: &str, total_bytes: u64) -> ProgressBar {
    let bar = ProgressBar::new(total_bytes);
    bar.set_style(
        ProgressStyle::with_template("{msg} {bar:32} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
            .expect("the template is well formed"),
    );
    bar.set_message(message.to_owned());
    bar
}

/// Progress of fetching and reading a base model: a bar where the length is known, a spinner where it is not.
pub(crate) struct ProgressBars {
    name: String,
    current: Option<(Stage, ProgressBar)>,
}

impl ProgressBars {
    /// Bars for the model of this name; nothing is drawn yet.
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), current: None }
    }

    /// Draws how far the work is.
    pub(crate) fn show(&mut self, progress: LoadProgress) {
        if self.current.as_ref().is_none_or(|(stage, _)| *stage != progress.stage) {
            self.clear();
            let message = format!("{} {}", progress.stage.as_str(), self.name);
            let bar = match progress.total_bytes {
                Some(total_bytes) => byte_bar(&message, total_bytes),
                None => ProgressBar::new_spinner().with_message(message),
            };
            bar.enable_steady_tick(Duration::from_millis(100));
            self.current = Some((progress.stage, bar));
        }
        if let Some((_, bar)) = &self.current {
            bar.set_position(progress.done_bytes);
        }
    }

    /// Takes the bar away.
    pub(crate) fn clear(&mut self) {
        if let Some((_, bar)) = self.current.take() {
            bar.finish_and_clear();
        }
    }
}

/// A field of an answer as it stands in a cell of a [`table`]: nothing for null, and what a list has with spaces between.
pub(crate) fn cell(object: &Value, field: &str) -> String {
    match &object[field] {
        Value::Null => String::new(),
        Value::String(text) => plain(text),
        Value::Array(items) => items.iter().filter_map(Value::as_str).map(plain).collect::<Vec<_>>().join(" "),
        other => plain(&other.to_string()),
    }
}

/// Text of others, without what a terminal would take for a command.
fn plain(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).collect()
}

/// How much of something is used, as `######----  60%`; more than all of it is full.
pub(crate) fn bar(used: u64, of: u64) -> String {
    const WIDTH: u64 = 10;
    if of == 0 {
        // Nothing may be used, and all of that is.
        return format!("{}  100%", "#".repeat(WIDTH as usize));
    }
    let part = |most: u64| u64::try_from(u128::from(used) * u128::from(most) / u128::from(of)).unwrap_or(u64::MAX);
    let filled = usize::try_from(part(WIDTH).min(WIDTH)).unwrap_or_default();
    format!("{}{}  {:>3}%", "#".repeat(filled), "-".repeat(WIDTH as usize - filled), part(100).min(999))
}

/// Prints rows under a header, in columns as wide as their longest cell. Cells may have text of others: what a terminal
/// would take for a command is left out.
///
/// # Errors
/// As [`line`].
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    lines_of(header, rows).iter().try_for_each(|text| line(text))
}

fn lines_of(header: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line_of = |cells: &[&str]| {
        let text: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
        text.join("  ").trim_end().to_owned()
    };
    let rows = rows.iter().map(|row| line_of(&row.iter().map(String::as_str).collect::<Vec<_>>()));
    std::iter::once(line_of(header)).chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_bar_is_as_full_as_what_is_used_and_never_longer() {
        for (used, of, expected) in [
            (0, 10, "----------    0%"),
            (6, 10, "######----   60%"),
            (99, 100, "#########-   99%"),
            (10, 10, "##########  100%"),
            (25, 10, "##########  250%"),
            (u64::MAX, 1, "##########  999%"),
            (0, 0, "##########  100%"),
        ] {
            assert_eq!(bar(used, of), expected, "{used} of {of}");
        }
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_told_from_a_connection_that_broke() {
        struct Closed;
        impl io::Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let unread = Output(Closed).write_all(b"a line").unwrap_err();
        assert!(is_closed_pipe(&anyhow::Error::new(unread).context("the answer was not printed")));
        let broken = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(!is_closed_pipe(&anyhow::Error::new(broken).context("the connection broke")));
    }

    #[test]
    fn text_of_others_has_no_commands_for_the_terminal_in_any_cell_and_columns_are_as_wide_as_what_is_seen() {
        let hostile = "a\u{1b}[2Jb\r\n\u{9b}31mc\u{7}";
        let lines = lines_of(&["NAME", "STATE"], &[vec![hostile.to_owned(), "up".to_owned()]]);
        assert_eq!(lines, ["NAME       STATE", "a[2Jb31mc  up"]);
        let answer = json!({ "name": hostile, "names": [hostile, "d"], "number": 1, "none": null });
        assert_eq!(
            ["name", "names", "number", "none"].map(|field| cell(&answer, field)),
            ["a[2Jb31mc", "a[2Jb31mc d", "1", ""]
        );
        assert!(!cell(&json!({ "other": { "name": hostile } }), "other").chars().any(char::is_control));
    }
}
