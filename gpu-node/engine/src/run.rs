//! The engine's loop.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use souk_protocol::{FinishReason, JobFailure};
use souk_runner::{ModelRunner, RunnerLimits};

use super::adapter_set::AdapterSet;
use super::advance::Advance;
use super::answer::{Break, RunningAnswer};
use super::blocks::BlockPool;
use super::choose::{Advanced, Choice, Choosers};
use super::config::EngineConfig;
use super::draft::Draft;
use super::inbox::{Inbox, Mail, NewRequest};
use super::prefix::KeyChain;
use super::sampler;
use super::scheduler::{Budget, Scheduler, StepPlan};
use super::sequence::{Sequence, SequenceId};
use super::stats::{EngineStats, StepFigures};
use super::step::StepBuilder;
use crate::device_memory::{DeviceMemory, pages_for};

/// The state of the engine's thread.
pub(super) struct EngineLoop {
    inbox: Arc<Inbox>,
    runner: Box<dyn ModelRunner>,
    limits: RunnerLimits,
    scheduler: Scheduler,
    prefix_cache: bool,
    answers: HashMap<SequenceId, RunningAnswer>,
    step: StepBuilder,
    choosers: Choosers,
    stats: EngineStats,
}

impl EngineLoop {
    pub(super) fn new(
        runner: Box<dyn ModelRunner>,
        config: EngineConfig,
        memory: DeviceMemory,
        inbox: Arc<Inbox>,
    ) -> Self {
        let limits = runner.limits();
        let pool = BlockPool::new(limits.num_blocks, memory, pages_for(runner.block_bytes()).max(1));
        let mut engine = Self {
            inbox,
            runner,
            limits,
            scheduler: Scheduler::new(budget(config, limits), pool),
            prefix_cache: config.prefix_cache,
            answers: HashMap::new(),
            step: StepBuilder::default(),
            choosers: Choosers::default(),
            stats: EngineStats::default(),
        };
        engine.publish();
        engine
    }

    /// Runs until the inbox is drained.
    pub(super) fn run(mut self) {
        while self.take_commands() {
            self.give_way();
            let plan = self.schedule(Instant::now());
            self.run_step(&plan);
            self.publish();
        }
    }

    /// Takes in new requests and lets go of those that nobody wants. Sleeps while there is nothing to do; false at the
    /// end.
    pub(super) fn take_commands(&mut self) -> bool {
        let Mail { new, leaving, is_last } = self.inbox.take(self.is_idle());
        for request in new {
            self.admit(request);
        }
        for (id, failure) in leaving {
            self.leave(id, failure.map_or(Break::Cancelled, Break::Failed));
        }
        let unwanted = self.answers.iter().filter(|(_, answer)| answer.is_unwanted()).map(|(id, _)| *id);
        for id in unwanted.collect::<Vec<_>>() {
            self.leave(id, Break::Cancelled);
        }
        !is_last
    }

    /// Gives the memory of blocks that nobody holds to the adapters, if they want it.
    pub(super) fn give_way(&mut self) {
        let blocks = self.scheduler.pool().give_way();
        if !blocks.is_empty() {
            self.runner.discard_blocks(&blocks);
            self.scheduler.pool().paid_back(blocks.len());
        }
    }

    /// For tests to look at.
    #[cfg(test)]
    pub(super) const fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    pub(super) fn is_idle(&self) -> bool {
        self.answers.is_empty()
    }

    /// Decides the next step; ends what is too late.
    pub(super) fn schedule(&mut self, now: Instant) -> StepPlan {
        let mut plan = self.scheduler.plan(now);
        for sequence in plan.expired.drain(..) {
            if let Some(answer) = self.answers.remove(&sequence.id) {
                self.inbox.ended();
                answer.fail(&sequence, JobFailure::DeadlineExceeded);
            }
        }
        plan
    }

    /// Runs the step, samples, answers, and ends what is complete.
    pub(super) fn run_step(&mut self, plan: &StepPlan) {
        if plan.parts.is_empty() {
            return;
        }
        let started = Instant::now();
        let num_decode_rows = self.num_decode_rows(plan);
        let outcomes = self.compute(plan);
        self.step.clear();
        let advance = self.apply(plan, outcomes);
        self.stats.add(StepFigures {
            took: started.elapsed(),
            num_rows: plan.parts.iter().map(|part| part.positions.len()).sum(),
            num_decode_rows,
            num_preempted: plan.preempted.len(),
            advance,
        });
    }

    /// Runs the model and chooses what follows. Returns what came of each part of the plan.
    fn compute(&mut self, plan: &StepPlan) -> Vec<Advanced> {
        let output = match self.runner.run(self.step.build(plan, &self.scheduler)) {
            Ok(output) => output,
            Err(error) => {
                tracing::error!(%error, step = %plan, "a step failed; its sequences end, the engine goes on");
                return vec![Err(Break::Failed(JobFailure::Internal(error.to_string()))); plan.parts.len()];
            }
        };
        let threads = output.threads;
        let (sequences, answers) = (self.scheduler.all_running_mut(), self.answers.iter_mut());
        let choices = Choice::deal(plan, output, self.limits.vocab_size, sequences, answers);
        self.choosers.choose(choices, threads)
    }

    /// Sends what the step generated and ends the requests that are complete or broken.
    fn apply(&mut self, plan: &StepPlan, outcomes: Vec<Advanced>) -> Advance {
        let mut total = Advance::default();
        for (part, outcome) in plan.parts.iter().zip(outcomes) {
            let id = part.sequence;
            let Some(answer) = self.answers.get_mut(&id) else { continue };
            // What was computed counts, whether anybody takes it or not.
            if let Ok(advance) = outcome {
                total = total.plus(advance);
            }
            match answer.deliver().and(outcome) {
                Ok(_) => self.scheduler.share_computed(id),
                Err(reason) => self.leave(id, reason),
            }
            if let Some(reason) = self.scheduler.running(id).and_then(Sequence::finish_reason) {
                self.finish(id, reason);
            }
        }
        let still_here = plan.parts.iter().filter_map(|part| self.answers.get(&part.sequence));
        still_here.for_each(RunningAnswer::flush);
        total
    }

    fn admit(&mut self, new: NewRequest) {
        let mut sequence = self.sequence(&new);
        let id = new.id;
        let mut answer = RunningAnswer::new(new);
        // A prompt of one token that is only scored needs no step.
        if sequence.max_len == 1 && sequence.num_scored == 0 {
            answer.score_first(&mut sequence);
        }
        sequence.is_complete = answer.is_complete();
        let begun = answer.deliver();
        answer.flush();
        let reason = sequence.finish_reason();
        self.scheduler.admit(sequence);
        self.answers.insert(id, answer);
        match (begun, reason) {
            (Err(reason), _) => self.leave(id, reason),
            // Nothing to do: `resume` holds the whole answer, or nothing was asked for.
            (Ok(()), Some(reason)) => self.finish(id, reason),
            (Ok(()), None) => {}
        }
    }

    fn sequence(&self, new: &NewRequest) -> Sequence {
        let job = &new.request.job;
        let tokens: Vec<_> = job.prompt.iter().chain(&job.resume).copied().collect();
        let num_prompt = job.prompt.len();
        Sequence {
            id: new.id,
            num_prompt,
            num_computed: 0,
            num_scored: if job.prompt_logprobs.is_some() { 0 } else { num_prompt },
            is_plain_greedy: sampler::is_plain_greedy(job),
            max_len: job.max_context_tokens().min(self.inbox.limits().context_length),
            eos_tokens: job.eos_tokens.clone(),
            deadline: new.deadline,
            is_complete: false,
            adapters: AdapterSet::new(&new.request.adapters, &job.prompt),
            blocks: self.scheduler.pool().empty_list(),
            draft: Draft::default(),
            chain: self.prefix_cache.then(|| KeyChain::new(&job.tenant, &job.pool)),
            num_cached: 0,
            was_preempted: false,
            num_sat_out: 0,
            tenant: job.tenant.clone(),
            tokens,
        }
    }

    fn finish(&mut self, id: SequenceId, reason: FinishReason) {
        if let (Some(sequence), Some(answer)) = (self.scheduler.remove(id), self.answers.remove(&id)) {
            self.inbox.ended();
            answer.finish(&sequence, reason);
        }
    }

    fn leave(&mut self, id: SequenceId, reason: Break) {
        match reason {
            Break::Cancelled => self.finish(id, FinishReason::Cancelled),
            Break::Failed(failure) => {
                if let (Some(sequence), Some(answer)) = (self.scheduler.remove(id), self.answers.remove(&id)) {
                    self.inbox.ended();
                    answer.fail(&sequence, failure);
                }
            }
        }
    }

    /// Rows that extend answers, drafts among them.
    fn num_decode_rows(&self, plan: &StepPlan) -> usize {
        let is_decoding = |id| self.scheduler.running(id).is_some_and(Sequence::is_decoding);
        let parts = plan.parts.iter().filter(|part| is_decoding(part.sequence));
        parts.map(|part| part.positions.len()).sum()
    }

    pub(super) fn publish(&mut self) {
        if self.is_idle() {
            // Nothing will be planned for a while, so nothing is wanted.
            self.scheduler.pool().ask(0);
        }
        self.stats.num_running = self.scheduler.num_running();
        self.stats.num_waiting = self.scheduler.num_waiting();
        self.stats.num_free_places = self.scheduler.num_free_places();
        self.stats.num_blocks = self.limits.num_blocks;
        self.stats.num_free_blocks = self.scheduler.pool().num_free();
        self.stats.num_idle_blocks = self.scheduler.pool().num_idle();
        self.stats.count_prefix_cache(self.scheduler.reuse(), self.scheduler.pool().num_evicted());
        self.stats.publish_gauges();
        self.inbox.set_stats(&self.stats);
    }
}

impl Drop for EngineLoop {
    fn drop(&mut self) {
        // Also on a panic in the runner: nobody must wait for a thread that is gone.
        self.inbox.close();
    }
}

/// The configured bounds, lowered to what the runner takes. Each sequence can decode in every step.
pub(super) fn budget(config: EngineConfig, limits: RunnerLimits) -> Budget {
    let max_rows = config.max_batch_tokens.min(limits.max_rows).max(1);
    Budget {
        max_rows,
        max_logit_rows: limits.max_logit_rows.max(1),
        max_prefill_rows_beside_decode: config.max_prefill_tokens_beside_decode.clamp(1, max_rows),
        max_sequences: config.max_sequences.min(max_rows).min(limits.max_logit_rows).max(1),
        max_speculative_rows: config.max_speculative_rows(),
        max_adapter_bytes: config.max_adapter_bytes_per_step,
    }
}
