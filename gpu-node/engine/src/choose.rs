//! Chooses the tokens of all answers of a step at once, on the runner's threads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use souk_runner::{StepOutput, Threads};

use super::advance::Advance;
use super::answer::{Break, PartOutput, RunningAnswer};
use super::sampler::Sampler;
use super::scheduler::StepPlan;
use super::sequence::{Part, Sequence, SequenceId};

/// What has been made of one part of a plan.
pub(super) type Advanced = Result<Advance, Break>;

/// A part of a plan with its output and all that the choice of its tokens reads and changes. Nothing is shared by two.
pub(super) struct Choice<'a> {
    part: &'a Part,
    output: PartOutput<'a>,
    /// `None` if the generation has left.
    of: Option<(&'a mut Sequence, &'a mut RunningAnswer)>,
    outcome: Advanced,
}

/// One sampler for each thread.
#[derive(Default)]
pub(super) struct Choosers {
    samplers: Vec<Mutex<Sampler>>,
}

impl Choosers {
    /// Makes all choices. Returns what came of each, in their order.
    pub(super) fn choose(&mut self, choices: Vec<Choice<'_>>, threads: &dyn Threads) -> Vec<Advanced> {
        let num_long = choices.iter().filter(|choice| choice.reads_logits()).count();
        // Where rows of logits are few, waking a thread costs more than it saves.
        let num_workers = threads.num_threads().min(num_long).max(1);
        while self.samplers.len() < num_workers {
            self.samplers.push(Mutex::default());
        }
        // Each lock is taken by one thread once; it is how the compiler is told so.
        let choices: Vec<_> = choices.into_iter().map(Mutex::new).collect();
        let next = AtomicUsize::new(0);
        let work = |worker: usize| {
            let mut sampler = lock(&self.samplers[worker]);
            while let Some(choice) = choices.get(next.fetch_add(1, Ordering::Relaxed)) {
                lock(choice).make(&mut sampler);
            }
        };
        match num_workers {
            1 => work(0),
            _ => threads.for_each(num_workers, &work),
        }
        choices.into_iter().map(|choice| choice.into_inner().unwrap_or_else(PoisonError::into_inner).outcome).collect()
    }
}

impl<'a> Choice<'a> {
    /// Deals a step's output out to the parts of its plan.
    pub(super) fn deal(
        plan: &'a StepPlan,
        output: StepOutput<'a>,
        vocab_size: usize,
        sequences: impl Iterator<Item = &'a mut Sequence>,
        answers: impl Iterator<Item = (&'a SequenceId, &'a mut RunningAnswer)>,
    ) -> Vec<Self> {
        let StepOutput { mut logits, mut greedy, .. } = output;
        let mut sequences: BTreeMap<_, _> = sequences.map(|sequence| (sequence.id, sequence)).collect();
        let mut answers: BTreeMap<_, _> = answers.collect();
        let choice = |part: &'a Part| {
            let of = sequences.remove(&part.sequence).zip(answers.remove(&part.sequence));
            let output = match &of {
                None => PartOutput::Best(&[]),
                Some((sequence, _)) if sequence.is_plain_greedy => {
                    PartOutput::Best(greedy.split_off(..part.logits.len()).unwrap_or_default())
                }
                Some(_) => {
                    PartOutput::Logits(logits.split_off_mut(..part.logits.len() * vocab_size).unwrap_or_default())
                }
            };
            Self { part, output, of, outcome: Ok(Advance::default()) }
        };
        plan.parts.iter().map(choice).collect()
    }

    fn reads_logits(&self) -> bool {
        matches!(&self.output, PartOutput::Logits(rows) if !rows.is_empty())
    }

    fn make(&mut self, sampler: &mut Sampler) {
        if let Some((sequence, answer)) = &mut self.of {
            let output = std::mem::replace(&mut self.output, PartOutput::Best(&[]));
            self.outcome = answer.take(sequence, self.part, output, sampler);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
