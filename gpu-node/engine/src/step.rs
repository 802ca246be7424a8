//! Turns a plan into the step that the runner takes. Buffers are reused from step to step.

use std::sync::Arc;

use souk_runner::{AdapterRun, BlockId, Step, StepSequence};

use super::adapter_set::Stage;
use super::blocks::blocks_for;
use super::count::count;
use super::scheduler::{Scheduler, StepPlan};
use super::sequence::{Part, Sequence};

/// Builds steps.
#[derive(Default)]
pub(super) struct StepBuilder {
    step: Step,
    /// Block lists of earlier steps, for reuse.
    spare: Vec<Vec<BlockId>>,
}

impl StepBuilder {
    pub(super) fn build(&mut self, plan: &StepPlan, scheduler: &Scheduler) -> &Step {
        self.clear();
        for part in &plan.parts {
            if let Some(sequence) = scheduler.running(part.sequence) {
                self.push(part, sequence);
            }
        }
        &self.step
    }

    /// Empties the step, so that it keeps no adapter alive while the engine is idle.
    pub(super) fn clear(&mut self) {
        self.step.tokens.clear();
        self.step.positions.clear();
        self.step.logit_rows.clear();
        self.step.greedy_rows.clear();
        self.step.adapter_runs.clear();
        self.spare.extend(self.step.sequences.drain(..).map(|sequence| sequence.blocks));
    }

    fn push(&mut self, part: &Part, sequence: &Sequence) {
        let (first_row, num_rows) = (self.step.tokens.len(), part.positions.len());
        let first = part.positions.start;
        self.step.tokens.extend(part.positions.clone().map(|position| sequence.token_at(position)));
        self.step.positions.extend(part.positions.clone().map(count));
        let wanted = if sequence.is_plain_greedy { &mut self.step.greedy_rows } else { &mut self.step.logit_rows };
        wanted.extend(part.logits.clone().map(|position| count(first_row + position - first)));
        let mut blocks = self.spare.pop().unwrap_or_default();
        blocks.clear();
        blocks.extend_from_slice(&sequence.blocks.as_slice()[..blocks_for(part.positions.end)]);
        for (positions, stage) in sequence.adapters.stages(part.positions.clone()) {
            self.push_adapters(first_row + positions.start - first, positions.len(), stage);
        }
        self.step.sequences.push(StepSequence { first_row, num_rows, blocks });
    }

    /// Extends the last run if the same adapters act on these rows: the plan made such rows adjacent.
    fn push_adapters(&mut self, first_row: usize, num_rows: usize, stage: &Stage) {
        if stage.adapters.is_empty() {
            return;
        }
        if let Some(last) = self.step.adapter_runs.last_mut()
            && last.first_row + last.num_rows == first_row
            && stage.acts_like(&last.adapters)
        {
            last.num_rows += num_rows;
            return;
        }
        self.step.adapter_runs.push(AdapterRun { first_row, num_rows, adapters: Arc::clone(&stage.adapters) });
    }
}
