//! What an answer must look like.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::settings::{self, Checks, mebibytes, milliseconds};

/// A condition on an answer's text. Each generated token must leave a way to meet it, and the answer may end only where
/// it is met. Sources travel as text: a node compiles them, under limits, and refuses what it cannot
/// ([`JobFailure::Constraint`](crate::JobFailure::Constraint)).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ConstraintSpec {
    /// Any JSON object.
    JsonObject,
    /// JSON that conforms to this JSON schema (draft 2020-12), itself as JSON text.
    JsonSchema(String),
    /// Text that this regular expression matches from its beginning to its end.
    Regex(String),
    /// Text of this context-free grammar in llguidance's dialect of Lark.
    Grammar(String),
    /// Exactly one of these texts.
    Choice(Vec<String>),
}

impl ConstraintSpec {
    /// Stable word for the kind, for metrics and messages.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::JsonObject => "json_object",
            Self::JsonSchema(_) => "json_schema",
            Self::Regex(_) => "regex",
            Self::Grammar(_) => "grammar",
            Self::Choice(_) => "choice",
        }
    }

    /// Bytes of its source.
    #[must_use]
    pub fn source_bytes(&self) -> usize {
        match self {
            Self::JsonObject => 0,
            Self::JsonSchema(source) | Self::Regex(source) | Self::Grammar(source) => source.len(),
            Self::Choice(texts) => texts.iter().map(String::len).sum(),
        }
    }
}

/// What constraints may cost: the section `[constraints]` of the settings. The gateway holds requests to the first two,
/// the nodes to all but `max_choices`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConstraintLimits {
    /// Bytes of a source: a JSON schema, a regular expression, a grammar, or all choices together.
    pub max_source_bytes: usize,
    /// Texts in a choice.
    pub max_choices: usize,
    /// Time to compile one; also how long to wait for a free thread.
    #[serde(rename = "compile_timeout_ms", deserialize_with = "milliseconds::deserialize")]
    pub compile_timeout: Duration,
    /// Constraints that are compiled at once, each on a thread of its own. One that goes beyond its time is refused at
    /// once, and its thread is free when the counted limits end it, within about a second.
    pub max_concurrent_compiles: usize,
    /// Work of writing a constraint's expressions down, of finding out which of them match anything, and of the first
    /// move from each: 50,000 units are about a millisecond, and a schema of 64 KiB needs some 40,000.
    pub max_compile_work: u64,
    /// Lexer work of one mask, which is computed between two steps of the engine: 100,000 units are up to 5 ms. An
    /// answer that needs more ends with a failure. Usual masks need some hundred.
    pub max_mask_work: u64,
    /// Memory of a compiled lexer; each answer has a copy, which may grow to twice as much and 4 MiB.
    #[serde(rename = "max_compiled_mb", deserialize_with = "mebibytes::deserialize")]
    pub max_compiled_bytes: usize,
    /// Memory that answers under way may take for their constraints.
    #[serde(rename = "max_live_mb", deserialize_with = "mebibytes::deserialize")]
    pub max_live_bytes: usize,
    /// Compiled constraints, and refusals, that are kept.
    pub max_cached: usize,
    /// Memory of those.
    #[serde(rename = "max_cached_mb", deserialize_with = "mebibytes::deserialize")]
    pub max_cached_bytes: usize,
}

impl Default for ConstraintLimits {
    fn default() -> Self {
        settings::defaults("constraints")
    }
}

impl ConstraintLimits {
    /// Checks that each value can be used, alone and with the others.
    pub fn check(&self, checks: &mut Checks) {
        // Sources of this length take half of the stack that compiling has.
        checks.within("constraints.max_source_bytes", self.max_source_bytes, 1..=128 << 10);
        checks.within("constraints.max_choices", self.max_choices, 1..=1 << 20);
        checks.within("constraints.compile_timeout_ms", self.compile_timeout.as_millis(), 1..=600_000);
        // Each has 128 MiB of address space.
        checks.within("constraints.max_concurrent_compiles", self.max_concurrent_compiles, 1..=64);
        checks.within("constraints.max_compile_work", self.max_compile_work, 1..=1 << 40);
        checks.within("constraints.max_mask_work", self.max_mask_work, 1..=1 << 40);
        checks.within("constraints.max_compiled_mb", self.max_compiled_bytes >> 20, 1..=1 << 20);
        // The largest must find room beside the reserve of an eighth.
        let least = 8 * (2 * (self.max_compiled_bytes >> 20) + 4) / 7 + 1;
        checks.at_least("constraints.max_live_mb", self.max_live_bytes >> 20, least);
        checks.within("constraints.max_cached", self.max_cached, 1..=1 << 20);
        checks.within("constraints.max_cached_mb", self.max_cached_bytes >> 20, 1..=1 << 20);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_counts_all_its_bytes() {
        assert_eq!(ConstraintSpec::JsonObject.source_bytes(), 0);
        assert_eq!(ConstraintSpec::Regex("[0-9]+".to_owned()).source_bytes(), 6);
        assert_eq!(ConstraintSpec::Choice(vec!["ja".to_owned(), "nö".to_owned()]).source_bytes(), 5);
    }

    #[test]
    fn it_survives_the_queue() {
        let spec = ConstraintSpec::Choice(vec!["yes".to_owned(), "no".to_owned()]);
        let wire = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<ConstraintSpec>(&wire).unwrap(), spec);
    }
}
