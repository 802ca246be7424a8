//! Why a constraint cannot be used, or not any longer.

use std::time::Duration;

use llguidance::api::StopReason;
use souk_protocol::{JobFailure, TokenId};

/// Longest message of the grammar machinery that is passed on.
const MAX_MESSAGE_BYTES: usize = 400;

/// Why a constraint cannot be compiled or followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// The source is not what it should be, or uses what is not supported.
    #[error("{0}")]
    Invalid(String),
    /// The source is longer than the limit.
    #[error("its source has {given} bytes and may have {limit}")]
    TooLong {
        /// The limit.
        limit: usize,
        /// What was given.
        given: usize,
    },
    /// The source asks for more work or memory than a grammar may use.
    #[error("it is too complex: {0}")]
    TooComplex(String),
    /// Compiling takes too long.
    #[error("compiling it takes longer than {} ms", .limit.as_millis())]
    TooSlow {
        /// The limit.
        limit: Duration,
    },
    /// Nothing that the model can say meets it.
    #[error("no text meets it")]
    NoText,
    /// Every text that meets it is without end.
    #[error("no text meets it: what it is made of refers to itself without end")]
    Endless,
    /// A token that it does not allow.
    #[error("token {0} is not allowed here")]
    NotAllowed(TokenId),
    /// Something is taken, by all or by the caller's other constraints.
    #[error("{what} taken: {reason}")]
    Busy {
        /// What is taken, and the verb.
        what: &'static str,
        /// What is held and asked for.
        reason: String,
        /// Whether it is the caller's share.
        is_share: bool,
    },
    /// Nobody waits for it any more.
    #[error("nobody waits for it")]
    Left,
    /// The grammar machinery failed.
    #[error("the grammar cannot be followed: {0}")]
    Internal(String),
}

impl ConstraintError {
    /// What is told to the caller whose constraint cannot be compiled.
    #[must_use]
    pub fn refusal(&self) -> JobFailure {
        match self {
            Self::Busy { is_share, .. } => JobFailure::Busy { what: self.to_string(), is_share: *is_share },
            // Nothing that the caller could change.
            error @ (Self::Internal(_) | Self::NotAllowed(_) | Self::Left) => JobFailure::Internal(error.to_string()),
            error => JobFailure::Constraint(error.to_string()),
        }
    }

    /// What is told to the caller whose answer broke off after `num_tokens`.
    #[must_use]
    pub fn failure(&self, num_tokens: u32) -> JobFailure {
        match self {
            // The answer is made of what is allowed, so a token that is not is our fault as well.
            Self::Internal(_) | Self::NotAllowed(_) | Self::Left => JobFailure::Internal(self.to_string()),
            _ => JobFailure::ConstraintLimit { num_tokens, reason: self.to_string() },
        }
    }

    /// A stable word for metrics.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::TooLong { .. } => "too_long",
            Self::TooComplex(_) => "too_complex",
            Self::TooSlow { .. } => "too_slow",
            Self::NoText => "no_text",
            Self::NotAllowed(_) => "not_allowed",
            Self::Endless => "endless",
            Self::Busy { .. } => "busy",
            Self::Left => "left",
            Self::Internal(_) => "internal",
        }
    }

    /// A source on which the grammar compiler panics. It would on every node, so this is told as a refusal of the
    /// source.
    pub(super) fn breaks_the_compiler() -> Self {
        Self::Invalid("the grammar compiler fails on it".to_owned())
    }

    /// What the grammar machinery said when a grammar was built.
    pub(super) fn at_build(error: &str) -> Self {
        let too_big = ["too big", "too large", "too complex", "too deeply", "fuel", "too many"];
        match plain(error) {
            _ if error.starts_with("panic") => Self::breaks_the_compiler(),
            message if message.contains("'='") && message.contains("found") => Self::Invalid(format!(
                "{message}; rules are written `name: …` in this dialect of Lark, not `name ::= …`, and the first is `start`"
            )),
            message if too_big.iter().any(|sign| message.contains(sign)) => Self::TooComplex(message),
            message => Self::Invalid(message),
        }
    }

    /// What it said while an answer was made.
    pub(super) fn at_step(reason: StopReason, error: &str) -> Self {
        match reason {
            _ if error.starts_with("panic") => Self::Internal("the grammar machinery panicked".to_owned()),
            _ if error.starts_with("NoExtension") => Self::NoText,
            StopReason::NoExtension | StopReason::NoExtensionBias => Self::NoText,
            StopReason::LexerTooComplex | StopReason::ParserTooComplex => Self::TooComplex(plain(error)),
            _ if ["too many", "Too many", "max is", "fuel"].iter().any(|sign| error.contains(sign)) => {
                Self::TooComplex(plain(error))
            }
            _ => Self::Internal(plain(error)),
        }
    }
}

/// The message without what is appended for developers, in one line, without control characters, and not too long.
fn plain(error: &str) -> String {
    let end = ["\n<", "<non-verbose/>"].iter().filter_map(|mark| error.find(mark)).min().unwrap_or(error.len());
    // A feature of the crate, which nobody can switch on from outside.
    let said = error[..end].replace(" without 'referencing' feature", "");
    let mut message = String::new();
    for line in said.lines().map(str::trim).filter(|line| !line.is_empty()) {
        // Lines of the source with a pointer below are drawn for a terminal.
        if line.split_once('|').is_some_and(|(number, _)| number.trim().parse::<u32>().is_ok()) || line == "^" {
            continue;
        }
        message.push_str(if message.is_empty() { "" } else { "; " });
        // The caller's own text may be in it, and goes to answers and logs.
        line.chars().for_each(|c| message.push(if c.is_control() { '\u{FFFD}' } else { c }));
    }
    if message.len() > MAX_MESSAGE_BYTES {
        let end = (0..=MAX_MESSAGE_BYTES).rev().find(|&end| message.is_char_boundary(end)).unwrap_or_default();
        message.truncate(end);
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_without_the_source() {
        let said = "at 1(8): invalid regex\n   1 | start: /(/\n              ^\n\n<state>\nTokens: 1</state>";
        assert_eq!(ConstraintError::at_build(said), ConstraintError::Invalid("at 1(8): invalid regex".to_owned()));
        let coloured = ConstraintError::at_build("invalid regex /\u{1b}[31ma(/");
        assert_eq!(coloured, ConstraintError::Invalid("invalid regex /\u{fffd}[31ma(/".to_owned()));
        let ConstraintError::Invalid(long) = ConstraintError::at_build(&"é".repeat(1000)) else { panic!("invalid") };
        assert!(long.len() <= MAX_MESSAGE_BYTES + 3 && long.ends_with('…'));
    }

    #[test]
    fn what_is_our_fault_is_not_told_as_the_callers() {
        for ours in [ConstraintError::Internal("no vocabulary".to_owned()), ConstraintError::NotAllowed(7)] {
            assert!(matches!(ours.refusal(), JobFailure::Internal(_)));
            assert!(matches!(ours.failure(3), JobFailure::Internal(_)));
        }
        assert_eq!(ConstraintError::NoText.refusal(), JobFailure::Constraint("no text meets it".to_owned()));
        let limit = ConstraintError::TooComplex("too many items".to_owned());
        assert!(matches!(limit.failure(3), JobFailure::ConstraintLimit { num_tokens: 3, .. }));
    }

    #[test]
    fn a_panic_inside_stays_inside() {
        let said = "panic: index out of bounds\n<backtrace>\nsecret\n</backtrace>";
        assert_eq!(ConstraintError::at_build(said).to_string(), "the grammar compiler fails on it");
        let error = ConstraintError::at_step(StopReason::InternalError, said);
        assert_eq!(error.to_string(), "the grammar cannot be followed: the grammar machinery panicked");
    }
}
