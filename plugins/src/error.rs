//! How a call of a hook fails.
//!
//! A kind is the host's own word and may be shown to everybody. What the hook's own code had a part in, such as the names of its functions
//! in a trace, is [`HookError::detail`], and is for the hook's owner alone.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::measured::Measured;

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookErrorKind {
    /// It stopped by itself: a panic, a division by zero, a wrong address.
    Trap,
    /// It took more instructions than it may.
    OutOfFuel,
    /// It took more processor time than it may.
    TimedOut,
    /// It wanted more memory or longer tables than it may, and could not go on without.
    OutOfMemory,
    /// It called itself too deep.
    StackOverflow,
    /// It was to be given more than it may be.
    InputTooLarge,
    /// It gave back more than it may.
    OutputTooLarge,
    /// It called the host too often, or with too much.
    TooManyHostCalls,
    /// It holds too many handles of resources.
    TooManyHandles,
    /// It gave back, or gave to the host, what the interface does not allow.
    Invalid,
    /// It cannot be started: it does not fit to what the host has.
    CannotStart,
    /// It does not have what was called.
    NotExported,
    /// A stream that has ended was to go on.
    Ended,
    /// The caller's tenant has its share of what there is to run hooks. The hook has no part in it.
    ShareTaken,
    /// All that there is to run hooks was taken. The hook has no part in it.
    Busy,
    /// The host failed. The hook has no part in it.
    Internal,
}

impl HookErrorKind {
    /// All there are.
    pub const ALL: [Self; 16] = [
        Self::Trap,
        Self::OutOfFuel,
        Self::TimedOut,
        Self::OutOfMemory,
        Self::StackOverflow,
        Self::InputTooLarge,
        Self::OutputTooLarge,
        Self::TooManyHostCalls,
        Self::TooManyHandles,
        Self::Invalid,
        Self::CannotStart,
        Self::NotExported,
        Self::Ended,
        Self::ShareTaken,
        Self::Busy,
        Self::Internal,
    ];

    /// A stable word for it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::OutOfFuel => "out_of_fuel",
            Self::TimedOut => "timed_out",
            Self::OutOfMemory => "out_of_memory",
            Self::StackOverflow => "stack_overflow",
            Self::InputTooLarge => "input_too_large",
            Self::OutputTooLarge => "output_too_large",
            Self::TooManyHostCalls => "too_many_host_calls",
            Self::TooManyHandles => "too_many_handles",
            Self::Invalid => "invalid",
            Self::CannotStart => "cannot_start",
            Self::NotExported => "not_exported",
            Self::Ended => "ended",
            Self::ShareTaken => "share_taken",
            Self::Busy => "busy",
            Self::Internal => "internal",
        }
    }

    /// A sentence without its full stop.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::Trap => "it stopped with a trap",
            Self::OutOfFuel => "it took more instructions than it may",
            Self::TimedOut => "it took more processor time than it may",
            Self::OutOfMemory => "it wanted more memory than it may have",
            Self::StackOverflow => "it called itself too deep",
            Self::InputTooLarge => "what it was to be given is longer than it may be",
            Self::OutputTooLarge => "what it gave back is longer than it may be",
            Self::TooManyHostCalls => "it called the host too often or with too much",
            Self::TooManyHandles => "it holds too many handles of resources",
            Self::Invalid => "it gave what the interface does not allow",
            Self::CannotStart => "it does not fit to what is offered here",
            Self::NotExported => "it does not have what was called",
            Self::Ended => "its stream has ended",
            Self::ShareTaken => "your other calls have taken your share of what runs hooks",
            Self::Busy => "there was no room to run it",
            Self::Internal => "the host failed",
        }
    }

    /// Whether the host's state alone was the reason, so that the same call may do well at another time.
    #[must_use]
    pub const fn is_of_host(self) -> bool {
        matches!(self, Self::ShareTaken | Self::Busy | Self::Internal)
    }
}

/// That a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookError {
    /// What went wrong.
    pub kind: HookErrorKind,
    /// More of it, with texts that the hook has a part in; kept only where the call's lines are.
    pub detail: Option<Box<str>>,
    /// What the call took until then.
    pub measured: Box<Measured>,
}

impl HookError {
    /// An error of a call that was not begun.
    #[must_use]
    pub fn before(kind: HookErrorKind) -> Self {
        Self { kind, detail: None, measured: Box::default() }
    }

    /// Its kind's word.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.kind.code()
    }
}

impl fmt::Display for HookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.message())
    }
}

impl std::error::Error for HookError {}
