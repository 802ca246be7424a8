//! What the innocent tenant notices.

use std::fmt;
use std::io::Write as _;
use std::time::Duration;

use crate::stack::Stack;

/// What its requests met.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// From sending a request to the first token of its answer.
    pub(crate) waits: Vec<Duration>,
    /// Steps of the engine during that, those included that ran while the figure was read.
    pub(crate) steps: Vec<u64>,
    /// What was not answered with success: status and body.
    pub(crate) refusals: Vec<String>,
}

/// One line of the table.
pub(crate) struct Harm<'a> {
    /// What the hostile tenants did.
    pub(crate) act: &'a str,
    /// How often.
    pub(crate) num_acts: usize,
    /// The innocent's requests without them.
    pub(crate) alone: &'a Seen,
    /// The same beside them.
    pub(crate) beside: &'a Seen,
}

impl Seen {
    /// Requests of all kinds of ends.
    pub(crate) fn num_asked(&self) -> usize {
        self.waits.len() + self.refusals.len()
    }
}

impl Harm<'_> {
    /// Prints the line, and asserts that the innocent was answered each time.
    pub(crate) fn told(&self, stack: &Stack) {
        let line = format!("{self} {} |", stack.peak_kib() / 1024);
        println!("\n{line}");
        if let Some(table) = std::env::var_os("SOUK_HOSTILE_TABLE") {
            let mut file = std::fs::OpenOptions::new().append(true).create(true).open(table).expect("the table's file");
            writeln!(file, "{line}").expect("the table's file");
        }
        assert!(self.beside.num_asked() > 0);
        assert!(self.num_acts > 0, "{}: nobody did anything", self.act);
        let refusals = &self.beside.refusals;
        assert!(refusals.is_empty(), "{}: the innocent was refused {refusals:?}", self.act);
    }
}

impl fmt::Display for Harm<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (alone, beside) = (middle_and_worst(&self.alone.waits), middle_and_worst(&self.beside.waits));
        let in_ms = |(middle, worst): (Duration, Duration)| format!("{} / {}", middle.as_millis(), worst.as_millis());
        let (middle, worst) = middle_and_worst(&self.beside.steps);
        let (asked, refused) = (self.beside.num_asked(), self.beside.refusals.len());
        let (alone, beside) = (in_ms(alone), in_ms(beside));
        write!(
            f,
            "| {} | {} | {asked} | {refused} | {alone} | {beside} | {middle} / {worst} |",
            self.act, self.num_acts
        )
    }
}

fn middle_and_worst<T: Ord + Copy + Default>(values: &[T]) -> (T, T) {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    (sorted.get(sorted.len() / 2).copied().unwrap_or_default(), sorted.last().copied().unwrap_or_default())
}
