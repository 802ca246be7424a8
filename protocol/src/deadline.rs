//! The one rule of deadlines. What travels with a job is the time that is left of it, never a moment: queue and node
//! may be other machines, and any wall clock may be set to another time while an answer runs. Whoever takes a job in
//! counts down what is left on its own monotonic clock, and whoever hands it on says what is left then.

use std::time::Duration;

/// As good as no deadline, and small enough to be added to any clock.
pub const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long to wait for a deadline that is `time_left` away: [`NEVER`] if there is none or it is further off.
#[must_use]
pub fn bounded(time_left: Option<Duration>) -> Duration {
    time_left.map_or(NEVER, |time_left| time_left.min(NEVER))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn what_is_far_off_or_absurd_is_never_and_can_be_added_to_a_clock() {
        assert_eq!(bounded(Some(Duration::from_secs(60))), Duration::from_secs(60));
        assert_eq!(bounded(Some(Duration::ZERO)), Duration::ZERO);
        assert_eq!(bounded(None), NEVER);
        assert_eq!(bounded(Some(Duration::MAX)), NEVER);
        assert!(Instant::now().checked_add(bounded(Some(Duration::MAX))).is_some());
    }
}
