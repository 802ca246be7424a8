//! Rates: a bucket that a minute fills, in whole numbers, so that nothing is lost or won by rounding.

use std::time::Duration;

/// Parts of one of what is counted. There are as many as a minute has milliseconds, so each millisecond refills as many
/// parts as the limit's value.
const PARTS: u64 = 60_000;

/// What is missing of one minute's worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    /// The limit when it was last taken from; at most [`MAX_RATE`](crate::MAX_RATE).
    limit: u64,
    /// Parts that are missing, at most the limit's.
    missing: u64,
    /// When that was, in milliseconds since the store began.
    at_ms: u64,
}

/// What was taken from a bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub(super) amount: u64,
    /// Of which limit.
    limit: u64,
}

impl Bucket {
    /// One that was empty when the store began.
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, missing: limit * PARTS, at_ms: 0 }
    }

    /// The same bucket at a later moment, under a limit that may be another.
    pub(super) fn at(self, now_ms: u64, limit: u64) -> Self {
        let passed_ms = now_ms.saturating_sub(self.at_ms).min(PARTS);
        let missing = self.missing.saturating_sub(self.limit * passed_ms);
        let missing = if limit == self.limit { missing } else { scaled(missing, limit, self.limit, u128::div_ceil) };
        Self { limit, missing, at_ms: now_ms.max(self.at_ms) }
    }

    /// What is there, in whole ones.
    pub(super) fn left(&self) -> u64 {
        (self.limit * PARTS - self.missing) / PARTS
    }

    /// How long until so much is there; `None` if the whole bucket is less.
    pub(super) fn has_in(&self, amount: u64) -> Option<Duration> {
        let room = self.limit.checked_sub(amount)? * PARTS;
        let lacking = self.missing.saturating_sub(room);
        // Nothing is missing of a limit of 0.
        Some(Duration::from_millis(if lacking == 0 { 0 } else { lacking.div_ceil(self.limit) }))
    }

    /// Takes what is there.
    pub(super) fn take(&mut self, amount: u64) -> Taken {
        debug_assert!(amount <= self.left(), "asked before");
        self.missing += amount * PARTS;
        Taken { amount, limit: self.limit }
    }

    /// Gives back a part of what was taken.
    pub(super) fn give_back(&mut self, amount: u64, taken: Taken) {
        let parts = amount.min(taken.amount) * PARTS;
        let parts =
            if taken.limit == self.limit { parts } else { scaled(parts, self.limit, taken.limit, |a, b| a / b) };
        self.missing = self.missing.saturating_sub(parts);
    }

    /// Whether it is as full as if it were new, so that it need not be kept.
    pub(super) fn is_full_at(self, now_ms: u64) -> bool {
        self.at(now_ms, self.limit).missing == 0
    }
}

/// Parts of one limit as parts of another.
fn scaled(parts: u64, to: u64, from: u64, divide: impl Fn(u128, u128) -> u128) -> u64 {
    if from == 0 {
        return to * PARTS;
    }
    let parts = divide(u128::from(parts) * u128::from(to), u128::from(from));
    u64::try_from(parts).unwrap_or(u64::MAX).min(to * PARTS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::MAX_RATE;

    #[test]
    fn a_change_of_the_limit_keeps_the_proportion_and_back_again_changes_nothing() {
        let mut bucket = Bucket::new(100).at(60_000, 100);
        let taken = bucket.take(50);
        assert_eq!(bucket.at(60_000, 10).left(), 5);
        assert_eq!(bucket.at(60_000, 1000).left(), 500);
        assert_eq!(bucket.at(60_000, 0).left(), 0);
        assert_eq!(bucket.at(60_000, 10).at(60_000, 100), bucket);
        let mut lower = bucket.at(60_000, 10);
        lower.give_back(20, taken);
        assert_eq!(lower.left(), 7, "a fifth of the bucket comes back");
    }

    #[test]
    fn the_largest_rate_is_counted_exactly() {
        let mut bucket = Bucket::new(MAX_RATE);
        assert_eq!((bucket.left(), bucket.has_in(1)), (0, Some(Duration::from_millis(1))));
        bucket = bucket.at(u64::MAX, MAX_RATE);
        bucket.take(MAX_RATE);
        assert_eq!(bucket.has_in(MAX_RATE), Some(Duration::from_secs(60)));
        assert_eq!(bucket.has_in(MAX_RATE + 1), None);
    }

    proptest! {
        /// Taken from at random moments, a bucket never gives more than one bucket and what refilled since, and what is told
        /// as the wait is the shortest.
        #[test]
        fn a_bucket_gives_a_minutes_worth_a_minute(
            limit in 1..5_000_u64,
            steps in prop::collection::vec((0..5_000_u64, 0..6_000_u64), 1..100),
        ) {
            let (mut bucket, mut now_ms, mut given) = (Bucket::new(limit), 0, 0_u64);
            for (wait_ms, amount) in steps {
                now_ms += wait_ms;
                bucket = bucket.at(now_ms, limit);
                match bucket.has_in(amount) {
                    Some(wait) if wait.is_zero() => {
                        bucket.take(amount);
                        given += amount;
                    }
                    Some(wait) => {
                        let wait_ms = u64::try_from(wait.as_millis()).unwrap();
                        prop_assert!(bucket.at(now_ms + wait_ms, limit).left() >= amount);
                        prop_assert!(bucket.at(now_ms + wait_ms - 1, limit).left() < amount);
                    }
                    None => prop_assert!(amount > limit),
                }
                // It was empty at first.
                prop_assert!(given * PARTS <= limit * now_ms);
            }
        }
    }
}
