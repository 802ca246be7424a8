//! The wall clock, in the one place that reads it: everywhere else a lint refuses to.
//!
//! It tells people when something was: `created` of an answer, the dates of rows, the day in a chat template. And it
//! says whether a moment that a person has named, such as the end of a key, is past. It ends no wait, no lease and no
//! answer, since it may be set to another time while they run: those go by monotonic clocks (`Instant`), and by the
//! time that is left where they travel ([`crate::deadline`]).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Now.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// The time since the Unix epoch; zero on a clock that stands before it.
#[must_use]
pub fn since_epoch() -> Duration {
    now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The same in whole milliseconds.
#[must_use]
pub fn unix_ms() -> u64 {
    u64::try_from(since_epoch().as_millis()).unwrap_or(u64::MAX)
}
