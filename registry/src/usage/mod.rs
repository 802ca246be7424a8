//! What was used. A request's rows are written once ([`Registry::write_usage`](crate::Registry::write_usage)), however often a
//! gateway sends them, and in the same transaction the sums of their day and the totals that budgets are held to are moved
//! and thresholds are told of. So sums are always those of the rows, and `souk check` can compare.
//!
//! Rows refer to nothing: those of a tenant that is unknown or erased meanwhile are written like any other, since what was
//! used was used. Reading is in `read/`.

mod rows;
mod totals;
mod write;

mod thresholds;

mod moving;

mod check;

pub(crate) mod read;

pub use check::{DifferentSum, UsageCheck, check_usage};
pub(crate) use moving::{move_totals, totals_in};
