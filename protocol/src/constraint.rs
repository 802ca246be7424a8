//! What an answer must look like.

use serde::{Deserialize, Serialize};

/// A condition on an answer's text. Each generated token must leave a way to meet it, and the answer may end only where it
/// is met. Sources travel as text: a node compiles them, under limits, and refuses what it cannot
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
