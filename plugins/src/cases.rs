//! Recorded cases: what a hook is given, and what it is to make of it. `examples/README.md` says how they are written.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::context::{CallContext, CountTokens};
use crate::error::HookError;
use crate::hook::Hook;
use crate::measured::Measured;
use crate::words::{Answer, AnswerOutcome, Ending, FinishReason, Opening, Piece, PromptOutcome, Request, Step, Usage};

/// A recorded case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows, in one sentence.
    pub about: String,
    /// How the hook is configured.
    #[serde(default = "nothing", skip_serializing_if = "is_nothing")]
    pub config: serde_json::Value,
    /// The tenant's variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// At which its clock stands.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub now: u64,
    /// What its randomness is drawn from.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub seed: u64,
    /// Before the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<PromptCase>,
    /// After it, for a whole answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<AnswerCase>,
    /// After it, piece by piece.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamCase>,
}

/// A request and what becomes of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptCase {
    /// What the hook is given.
    pub request: Request,
    /// What it makes of it; absent where that was not recorded yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<PromptOutcome>,
}

/// An answer and what becomes of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerCase {
    /// What the hook is given.
    pub answer: Answer,
    /// What it makes of it; absent where that was not recorded yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<AnswerOutcome>,
}

/// An answer in pieces, and what is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamCase {
    /// How it begins.
    #[serde(default)]
    pub opening: Opening,
    /// What the hook is given.
    pub pieces: Vec<PieceCase>,
    /// How it ends.
    #[serde(default = "by_itself")]
    pub ending: Ending,
    /// What is done after each piece and after the end; absent where that was not recorded yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<Step>>,
}

/// A piece, or its text alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PieceCase {
    /// Without tokens.
    Text(String),
    /// With them.
    Piece(Piece),
}

impl From<PieceCase> for Piece {
    fn from(piece: PieceCase) -> Self {
        match piece {
            PieceCase::Text(text) => Self { text, tokens: Vec::new() },
            PieceCase::Piece(piece) => piece,
        }
    }
}

fn nothing() -> serde_json::Value {
    serde_json::json!({})
}

fn is_nothing(config: &serde_json::Value) -> bool {
    *config == nothing()
}

const fn is_zero(number: &u64) -> bool {
    *number == 0
}

const fn by_itself() -> Ending {
    Ending { finish_reason: FinishReason::Stop, usage: Usage { prompt_tokens: 0, completion_tokens: 0 } }
}

/// What a hook made of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct Ran {
    /// The case with what the hook made of it in the place of what was recorded.
    pub case: Case,
    /// What all of its calls took together, and the most memory of one.
    pub measured: Measured,
}

impl Ran {
    /// Whether the hook made of it what was recorded.
    #[must_use]
    pub fn is_as(&self, recorded: &Case) -> bool {
        self.case == *recorded
    }
}

impl Case {
    /// Has a hook run it. `context` is what it has beside what the case says.
    ///
    /// # Errors
    /// [`HookError`] of the first call that fails.
    pub async fn run(&self, hook: &Hook, context: &CallContext) -> Result<Ran, HookError> {
        let context = CallContext {
            config: Arc::from(self.config.to_string()),
            variables: Arc::new(self.variables.clone()),
            clock_s: self.now,
            seed: self.seed,
            ..context.clone()
        };
        let mut ran = Ran { case: self.clone(), measured: Measured::default() };
        let mut carry = Vec::new();
        if let Some(prompt) = &mut ran.case.prompt {
            let (outcome, measured) = hook.prompt(&context, prompt.request.clone()).await?;
            if let PromptOutcome::Rewritten(rewritten) = &outcome {
                carry.clone_from(&rewritten.carry);
            }
            prompt.outcome = Some(outcome);
            add(&mut ran.measured, measured);
        }
        if let Some(case) = &mut ran.case.answer {
            let mut answer = case.answer.clone();
            answer.carry = or(answer.carry, &carry);
            let (outcome, measured) = hook.answer(&context, answer).await?;
            case.outcome = Some(outcome);
            add(&mut ran.measured, measured);
        }
        if let Some(case) = &mut ran.case.stream {
            case.steps = Some(case.run(hook, &context, &carry, &mut ran.measured).await?);
        }
        Ok(ran)
    }
}

impl StreamCase {
    async fn run(
        &self,
        hook: &Hook,
        context: &CallContext,
        carry: &[u8],
        all: &mut Measured,
    ) -> Result<Vec<Step>, HookError> {
        let opening = Opening { carry: or(self.opening.carry.clone(), carry), ..self.opening.clone() };
        let (mut stream, measured) = hook.open_stream(context, opening).await?;
        add(all, measured);
        let mut steps = Vec::with_capacity(self.pieces.len() + 1);
        for piece in self.pieces.iter().cloned() {
            let (step, measured) = stream.push(piece.into()).await?;
            add(all, measured);
            let is_last = !matches!(step, Step::Send(_));
            steps.push(step);
            if is_last {
                return Ok(steps);
            }
        }
        let (step, measured) = stream.finish(self.ending).await?;
        add(all, measured);
        steps.push(step);
        Ok(steps)
    }
}

/// The carry of the case itself, or what its `prompt` gave.
fn or(given: Vec<u8>, otherwise: &[u8]) -> Vec<u8> {
    if given.is_empty() { otherwise.to_vec() } else { given }
}

fn add(all: &mut Measured, one: Measured) {
    all.fuel += one.fuel;
    all.peak_memory_bytes = all.peak_memory_bytes.max(one.peak_memory_bytes);
    all.num_host_calls += one.num_host_calls;
    all.processor += one.processor;
    all.lines.extend(one.lines);
    all.num_dropped_lines += one.num_dropped_lines;
}

/// What `tokenize` says in a case: one token for each 4 bytes begun, so that no model is needed.
#[derive(Clone, Copy, Debug, Default)]
pub struct FourBytesEach;

impl CountTokens for FourBytesEach {
    fn count(&self, text: &str) -> u32 {
        u32::try_from(text.len().div_ceil(4)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_written_as_it_was_read() {
        let text = r#"{"about":"All of it.","config":{"a":1},"variables":{"b":"c"},"now":1,"seed":2,
            "prompt":{"request":{"input":{"text":"x"}},"outcome":"unchanged"},
            "answer":{"answer":{"text":"y"},"outcome":{"replaced":"z"}},
            "stream":{"pieces":["a",{"text":"b","tokens":[{"text":"b","logprob":-0.5}]}],"steps":[{"send":"a"},{"end":"b"}]}}"#;
        let case: Case = serde_json::from_str(text).unwrap();
        let again: Case = serde_json::from_value(serde_json::to_value(&case).unwrap()).unwrap();
        assert_eq!(case, again);
        assert_eq!(case.stream.unwrap().steps.unwrap().len(), 2);
        assert!(serde_json::from_str::<Case>(r#"{"about":"","extra":1}"#).is_err());
    }
}
