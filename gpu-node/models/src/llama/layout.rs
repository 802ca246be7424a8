//! A step, checked and laid out for the kernels.

use std::ops::Range;

use souk_kernels::AttentionSpan;
use souk_runner::{AdapterRun, BLOCK_TOKENS, RunnerError, RunnerLimits, Step};

use super::recycle::recycle;

/// Vectors that are filled for each step and keep their memory.
#[derive(Default)]
pub(super) struct StepLayout {
    /// KV slot of each row: block * [`BLOCK_TOKENS`] + offset.
    slots: Vec<u32>,
    /// The blocks of all sequences, one after the other.
    blocks: Vec<u32>,
    /// The rows that go through the head.
    head: Vec<u32>,
    /// Memory for the spans, which borrow `blocks`; put back after each step.
    pub(super) spans: Vec<AttentionSpan<'static>>,
}

/// Where the rows of a step lie, in the kernels' words.
pub(super) struct Layout<'a> {
    pub(super) slots: &'a [u32],
    pub(super) spans: Vec<AttentionSpan<'a>>,
    pub(super) head: HeadRows<'a>,
}

/// The rows of a step that go through the head, in two groups, each in the order of the step: those whose logits are
/// asked for, and those whose best token is found while the logits are made.
#[derive(Clone, Copy)]
pub(super) struct HeadRows<'a> {
    pub(super) rows: &'a [u32],
    /// Size of the first group.
    pub(super) num_written: usize,
}

impl<'a> HeadRows<'a> {
    fn new(step: &Step, rows: &'a mut Vec<u32>) -> Self {
        rows.clear();
        rows.extend(step.logit_rows.iter().chain(&step.greedy_rows));
        HeadRows { rows, num_written: step.logit_rows.len() }
    }

    /// Places in `rows` that a run covers.
    pub(super) fn of_run(self, run: &AdapterRun) -> impl Iterator<Item = Range<usize>> + use<'a> {
        let (first_row, end) = (run.first_row, run.first_row + run.num_rows);
        [0..self.num_written, self.num_written..self.rows.len()].into_iter().map(move |group| {
            let before = |limit: usize| self.rows[group.clone()].partition_point(|row| (*row as usize) < limit);
            group.start + before(first_row)..group.start + before(end)
        })
    }
}

impl StepLayout {
    /// Lays out a step that [`check`] has passed.
    pub(super) fn lay_out(&mut self, step: &Step) -> Layout<'_> {
        self.slots.clear();
        self.blocks.clear();
        for sequence in &step.sequences {
            let rows = sequence.first_row..sequence.first_row + sequence.num_rows;
            let blocks = &sequence.blocks[..num_blocks(step.positions[rows.end - 1])];
            self.blocks.extend(blocks.iter().map(|block| block.0));
            self.slots.extend(step.positions[rows].iter().map(|position| {
                let (index, offset) = (*position as usize / BLOCK_TOKENS, *position as usize % BLOCK_TOKENS);
                blocks[index].0 * BLOCK_TOKENS as u32 + offset as u32
            }));
        }
        let mut spans = recycle(std::mem::take(&mut self.spans));
        let mut rest = &self.blocks[..];
        for sequence in &step.sequences {
            let (first_row, num_rows) = (sequence.first_row, sequence.num_rows);
            let (blocks, others) = rest.split_at(num_blocks(step.positions[first_row + num_rows - 1]));
            rest = others;
            let first_position = step.positions[first_row] as usize;
            spans.push(AttentionSpan { first_row, num_rows, first_position, blocks });
        }
        Layout { slots: &self.slots, spans, head: HeadRows::new(step, &mut self.head) }
    }
}

/// Blocks that hold the positions 0 to `last_position`.
fn num_blocks(last_position: u32) -> usize {
    last_position as usize / BLOCK_TOKENS + 1
}

/// Refuses a step that breaks a limit, so that nothing after this can be out of range.
pub(super) fn check(step: &Step, limits: &RunnerLimits) -> Result<(), RunnerError> {
    let refuse = |reason: String| Err(RunnerError(reason));
    let num_rows = step.tokens.len();
    if num_rows > limits.max_rows {
        return refuse(format!("{num_rows} rows, more than {}", limits.max_rows));
    }
    if step.positions.len() != num_rows {
        return refuse(format!("{} positions for {num_rows} rows", step.positions.len()));
    }
    if let Some(token) = step.tokens.iter().find(|token| **token as usize >= limits.vocab_size) {
        return refuse(format!("token {token} is outside of the vocabulary of {}", limits.vocab_size));
    }
    check_sequences(step, limits)?;
    check_adapter_runs(step)?;
    check_head_rows(step, limits)
}

fn check_head_rows(step: &Step, limits: &RunnerLimits) -> Result<(), RunnerError> {
    let refuse = |reason: String| Err(RunnerError(reason));
    let (num_rows, num_wanted) = (step.tokens.len(), step.logit_rows.len() + step.greedy_rows.len());
    if num_wanted > limits.max_logit_rows {
        return refuse(format!("{num_wanted} rows of logits, more than {}", limits.max_logit_rows));
    }
    for rows in [&step.logit_rows, &step.greedy_rows] {
        if !rows.is_sorted_by(|row, next| row < next) {
            return refuse("the rows of logits do not ascend".to_owned());
        }
        if let Some(row) = rows.last().filter(|row| **row as usize >= num_rows) {
            return refuse(format!("logits of row {row} among {num_rows} rows"));
        }
    }
    match step.greedy_rows.iter().find(|row| step.logit_rows.binary_search(row).is_ok()) {
        Some(row) => refuse(format!("both the logits and the best token of row {row}")),
        None => Ok(()),
    }
}

fn check_sequences(step: &Step, limits: &RunnerLimits) -> Result<(), RunnerError> {
    let num_rows = step.tokens.len();
    let mut next_row = 0;
    for sequence in &step.sequences {
        let end = sequence.first_row.saturating_add(sequence.num_rows);
        if sequence.first_row != next_row || sequence.num_rows == 0 || end > num_rows {
            let (first, len) = (sequence.first_row, sequence.num_rows);
            return Err(RunnerError(format!(
                "a sequence has {len} rows from row {first}, after {next_row} of {num_rows}"
            )));
        }
        next_row = end;
        let positions = &step.positions[sequence.first_row..end];
        if !positions.is_sorted_by(|position, next| position.checked_add(1) == Some(*next)) {
            return Err(RunnerError(format!("the positions {positions:?} of a sequence are not consecutive")));
        }
        let last = positions[positions.len() - 1];
        if last as usize >= limits.context_length {
            return Err(RunnerError(format!("position {last} in a context of {}", limits.context_length)));
        }
        if sequence.blocks.len() < num_blocks(last) {
            let given = sequence.blocks.len();
            return Err(RunnerError(format!("{given} blocks where position {last} needs {}", num_blocks(last))));
        }
        if let Some(block) = sequence.blocks.iter().find(|block| block.0 as usize >= limits.num_blocks) {
            return Err(RunnerError(format!("block {} of {}", block.0, limits.num_blocks)));
        }
    }
    if next_row == num_rows {
        Ok(())
    } else {
        Err(RunnerError(format!("sequences cover {next_row} of {num_rows} rows")))
    }
}

fn check_adapter_runs(step: &Step) -> Result<(), RunnerError> {
    let mut next_row = 0;
    for run in &step.adapter_runs {
        let end = run.first_row.saturating_add(run.num_rows);
        if run.first_row < next_row || end > step.tokens.len() {
            let (first, len) = (run.first_row, run.num_rows);
            return Err(RunnerError(format!("an adapter run of {len} rows from row {first} is out of order or range")));
        }
        next_row = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use souk_runner::{BlockId, StepSequence};

    use super::*;

    const LIMITS: RunnerLimits =
        RunnerLimits { max_rows: 8, max_logit_rows: 2, num_blocks: 4, vocab_size: 10, context_length: 40 };

    /// A sequence of five rows from position 14, and one of a single row.
    fn step() -> Step {
        Step {
            tokens: vec![1; 6],
            positions: vec![14, 15, 16, 17, 18, 0],
            sequences: vec![
                StepSequence { first_row: 0, num_rows: 5, blocks: vec![BlockId(3), BlockId(1)] },
                StepSequence { first_row: 5, num_rows: 1, blocks: vec![BlockId(2)] },
            ],
            adapter_runs: Vec::new(),
            logit_rows: vec![4],
            greedy_rows: vec![5],
        }
    }

    #[test]
    fn rows_get_the_slots_of_their_positions() {
        let step = step();
        check(&step, &LIMITS).unwrap();
        let mut plan = StepLayout::default();
        let layout = plan.lay_out(&step);
        assert_eq!(layout.slots, [3 * 16 + 14, 3 * 16 + 15, 16, 17, 18, 32]);
        let spans: Vec<_> =
            layout.spans.iter().map(|span| (span.first_row, span.first_position, span.blocks)).collect();
        assert_eq!(spans, [(0, 14, &[3, 1][..]), (5, 0, &[2][..])]);
    }

    #[test]
    fn each_broken_rule_is_refused_and_named() {
        type Breakage = (&'static str, fn(&mut Step));
        let cases: [Breakage; 16] = [
            ("rows, more than", |step| step.tokens.resize(9, 0)),
            ("positions for", |step| step.positions.truncate(1)),
            ("vocabulary", |step| step.tokens[0] = 10),
            ("consecutive", |step| step.positions[1] = 14),
            ("context of", |step| step.positions[5] = 40),
            ("blocks where", |step| step.sequences[0].blocks.truncate(1)),
            ("block 4 of 4", |step| step.sequences[1].blocks[0] = BlockId(4)),
            ("a sequence has", |step| step.sequences[0].num_rows = 0),
            ("a sequence has", |step| step.sequences[1].num_rows = usize::MAX),
            ("sequences cover", |step| step.sequences.truncate(1)),
            ("rows of logits, more", |step| step.logit_rows = vec![0, 1, 2]),
            ("ascend", |step| (step.logit_rows, step.greedy_rows) = (vec![1, 1], vec![])),
            ("logits of row", |step| step.logit_rows = vec![6]),
            ("rows of logits, more", |step| step.greedy_rows = vec![0, 1]),
            ("ascend", |step| (step.logit_rows, step.greedy_rows) = (vec![], vec![3, 2])),
            ("both the logits", |step| step.greedy_rows = vec![4]),
        ];
        for (expected, change) in cases {
            let mut step = step();
            change(&mut step);
            let error = check(&step, &LIMITS).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_run_covers_head_rows_of_both_groups() {
        let run = |first_row, num_rows| AdapterRun { first_row, num_rows, adapters: Arc::new([]) };
        let step = Step { logit_rows: vec![2, 5], greedy_rows: vec![0, 1, 3, 4, 7, 8], ..Step::default() };
        let mut rows = Vec::new();
        let head = HeadRows::new(&step, &mut rows);
        assert_eq!((head.rows, head.num_written), (&[2, 5, 0, 1, 3, 4, 7, 8][..], 2));
        let of_run = |run: AdapterRun| head.of_run(&run).flatten().map(|at| head.rows[at]).collect::<Vec<_>>();
        assert_eq!(of_run(run(1, 3)), [2, 1, 3]);
        assert_eq!(of_run(run(6, 9)), [7, 8]);
        assert!(of_run(run(6, 1)).is_empty());
    }
}
