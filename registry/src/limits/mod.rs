//! Limits: what tenants, teams, members and keys may use in a period, as rows. Who sets them is in [`change`], what holds for a
//! caller in [`tree`], and how versions are counted in [`versions`]. What requests use is counted elsewhere, by gateways and
//! the rows of usage.
//!
//! A subject is bound by all levels above its own, so a limit beyond the one of a level above would say nothing: it is
//! refused when it is set. The one above may be lowered below it later, and binds then.

mod settings;

mod levels;
mod lookup;

mod shown;
mod tree;

mod change;
mod request;

mod versions;

pub use settings::LimitSettings;

pub(crate) use change::AnswersRequest;
pub(crate) use lookup::limits_of;
pub(crate) use request::{LimitRequest, LimitsRequest};
pub(crate) use shown::SubjectLimits;
