//! The one error of this crate: a shape, a limit or an instruction set that does not fit.

use crate::cpu::isa::Isa;

/// Why an op or a constructor refused its arguments. Nothing has been written when it is returned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// A size is not the one that the other arguments imply.
    #[error("{op}: {what} should be {expected}, given {given}")]
    Shape {
        /// The op that refused.
        op: &'static str,
        /// What was measured.
        what: &'static str,
        /// The size that fits.
        expected: usize,
        /// The size that was given.
        given: usize,
    },
    /// A size or an index is beyond what the op or its buffers can hold.
    #[error("{op}: {what} may be at most {limit}, given {given}")]
    Limit {
        /// The op that refused.
        op: &'static str,
        /// What was measured.
        what: &'static str,
        /// The greatest value that would do.
        limit: usize,
        /// The value that was given.
        given: usize,
    },
    /// A buffer is shorter than the rows it must hold.
    #[error("{op}: {what} must hold at least {expected} values, given {given}")]
    TooShort {
        /// The op that refused.
        op: &'static str,
        /// The buffer.
        what: &'static str,
        /// How many values are needed.
        expected: usize,
        /// How many it holds.
        given: usize,
    },
    /// The machine lacks the instructions that were asked for.
    #[error("this machine does not have the {isa:?} instruction set")]
    UnavailableIsa {
        /// What was asked for.
        isa: Isa,
    },
}

/// Refuses when `given` differs from `expected`.
pub(crate) fn check_equal(
    op: &'static str,
    what: &'static str,
    expected: usize,
    given: usize,
) -> Result<(), KernelError> {
    if given == expected { Ok(()) } else { Err(KernelError::Shape { op, what, expected, given }) }
}

/// Refuses when `given` is above `limit`.
pub(crate) fn check_limit(op: &'static str, what: &'static str, limit: usize, given: usize) -> Result<(), KernelError> {
    if given <= limit { Ok(()) } else { Err(KernelError::Limit { op, what, limit, given }) }
}

/// Refuses when a buffer of `given` values cannot hold `num_rows` rows of `cols`.
pub(crate) fn check_rows(
    op: &'static str,
    what: &'static str,
    num_rows: usize,
    cols: usize,
    given: usize,
) -> Result<(), KernelError> {
    let expected = num_rows.saturating_mul(cols);
    if given >= expected { Ok(()) } else { Err(KernelError::TooShort { op, what, expected, given }) }
}

/// Refuses when `given` is not an index into `count` things.
pub(crate) fn check_index(op: &'static str, what: &'static str, count: usize, given: usize) -> Result<(), KernelError> {
    if given < count { Ok(()) } else { Err(KernelError::Limit { op, what, limit: count.saturating_sub(1), given }) }
}
