//! The one rule of deadlines. A deadline travels with its job as wall-clock time, since queue and node may be other
//! machines; whoever takes the job in turns it into time that is left, once, and counts that down on its own monotonic
//! clock. A later step of the wall clock then moves no deadline.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// As good as no deadline, and small enough to be added to any clock.
pub const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// The deadline of what may take `timeout` from `now` on, in milliseconds since the Unix epoch.
#[must_use]
pub fn unix_ms_after(timeout: Duration, now: SystemTime) -> u64 {
    let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.saturating_add(timeout).as_millis()).unwrap_or(u64::MAX)
}

/// The time from `now` to a deadline: zero if it has passed, [`NEVER`] if there is none or it is further off.
#[must_use]
pub fn time_left(deadline_unix_ms: Option<u64>, now: SystemTime) -> Duration {
    let Some(deadline_unix_ms) = deadline_unix_ms else { return NEVER };
    let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_millis(deadline_unix_ms).saturating_sub(since_epoch).min(NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_left_is_what_was_given_less_what_has_passed() {
        let deadline = Some(unix_ms_after(Duration::from_secs(60), at(1000)));
        assert_eq!(time_left(deadline, at(1000)), Duration::from_secs(60));
        assert_eq!(time_left(deadline, at(1045)), Duration::from_secs(15));
        assert_eq!(time_left(deadline, at(1061)), Duration::ZERO);
    }

    #[test]
    fn what_is_far_off_or_absurd_is_never() {
        assert_eq!(time_left(None, at(1000)), NEVER);
        assert_eq!(time_left(Some(u64::MAX), at(1000)), NEVER);
        assert_eq!(unix_ms_after(Duration::MAX, at(1000)), u64::MAX);
        let before_the_epoch = UNIX_EPOCH - Duration::from_secs(5);
        assert_eq!(time_left(Some(1000), before_the_epoch), Duration::from_secs(1));
    }
}
