//! Latencies counted as they come, in memory that does not grow with their number.

use std::time::Duration;

/// Each power of two is cut into 2^7 buckets, so that a value is known to within 0.8 %.
const PRECISION_BITS: u32 = 7;
const BUCKETS_PER_OCTAVE: u64 = 1 << PRECISION_BITS;
/// Longer times count as this: 19 hours.
const MAX_MICROS: u64 = 1 << 36;

/// Counts of times by microsecond; exact below 256 µs, within 0.8 % above.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    /// As long as the largest value needs.
    counts: Vec<u32>,
    count: u64,
    sum_micros: u64,
    min_micros: u64,
    max_micros: u64,
}

impl Histogram {
    pub(crate) fn record(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(MAX_MICROS).min(MAX_MICROS);
        let bucket = bucket_of(micros);
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] = self.counts[bucket].saturating_add(1);
        self.min_micros = if self.count == 0 { micros } else { self.min_micros.min(micros) };
        self.max_micros = self.max_micros.max(micros);
        self.count += 1;
        self.sum_micros = self.sum_micros.saturating_add(micros);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// `None` if nothing was recorded.
    pub(crate) fn mean_ms(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum_micros as f64 / self.count as f64 / 1000.0)
    }

    /// `None` if nothing was recorded.
    pub(crate) fn max_ms(&self) -> Option<f64> {
        (self.count > 0).then(|| self.max_micros as f64 / 1000.0)
    }

    /// The least time that at least `fraction` of all times do not exceed; `None` if nothing was recorded.
    pub(crate) fn percentile_ms(&self, fraction: f64) -> Option<f64> {
        let rank = ((fraction * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= rank {
                let (low, high) = bounds_of(bucket);
                let micros = (low + (high - low) / 2).clamp(self.min_micros, self.max_micros);
                return Some(micros as f64 / 1000.0);
            }
        }
        None
    }

    /// Points (ms, fraction of times not above) of the distribution; about `num_points` of them, more in the tail.
    pub(crate) fn distribution(&self, num_points: u64) -> Vec<(f64, f64)> {
        let mut points: Vec<(f64, f64)> = Vec::new();
        let mut seen = 0u64;
        let mut drawn = 0u64;
        for (bucket, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            seen += u64::from(*count);
            // A point is due when the curve rose by a step, or by a tenth of what is left above it.
            let is_due = (seen - drawn) * num_points >= self.count || (seen - drawn) * 10 >= self.count - seen;
            if points.is_empty() || is_due {
                drawn = seen;
                let micros = bounds_of(bucket).1.clamp(self.min_micros, self.max_micros);
                points.push((micros as f64 / 1000.0, seen as f64 / self.count as f64));
            }
        }
        points
    }
}

fn bucket_of(micros: u64) -> usize {
    let bucket = if micros < 2 * BUCKETS_PER_OCTAVE {
        micros
    } else {
        let shift = micros.ilog2() - PRECISION_BITS;
        u64::from(shift) * BUCKETS_PER_OCTAVE + (micros >> shift)
    };
    usize::try_from(bucket).expect("there are fewer than 5,000 buckets")
}

/// The least and the greatest value of a bucket.
fn bounds_of(bucket: usize) -> (u64, u64) {
    let bucket = bucket as u64;
    if bucket < 2 * BUCKETS_PER_OCTAVE {
        return (bucket, bucket);
    }
    let shift = bucket / BUCKETS_PER_OCTAVE - 1;
    let mantissa = bucket - shift * BUCKETS_PER_OCTAVE;
    (mantissa << shift, ((mantissa + 1) << shift) - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of_micros(values: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::default();
        values.into_iter().for_each(|micros| histogram.record(Duration::from_micros(micros)));
        histogram
    }

    #[test]
    fn percentiles_of_known_values_are_known() {
        let histogram = of_micros(1..=100);
        let at = |fraction| histogram.percentile_ms(fraction).unwrap();
        assert_eq!([at(0.5), at(0.9), at(0.95), at(0.99), at(1.0)], [0.050, 0.090, 0.095, 0.099, 0.100]);
        assert_eq!(at(0.0), 0.001);
        assert_eq!((histogram.mean_ms(), histogram.max_ms()), (Some(0.0505), Some(0.1)));
    }

    #[test]
    fn one_value_is_every_percentile_of_itself() {
        let histogram = of_micros([1_234_567]);
        assert_eq!(histogram.percentile_ms(0.5), Some(1234.567));
        assert_eq!(histogram.distribution(100), [(1234.567, 1.0)]);
    }

    #[test]
    fn nothing_recorded_has_no_percentile() {
        let histogram = Histogram::default();
        assert_eq!((histogram.percentile_ms(0.5), histogram.mean_ms(), histogram.max_ms()), (None, None, None));
        assert!(histogram.distribution(100).is_empty());
    }

    #[test]
    fn buckets_meet_without_gap_or_overlap() {
        let mut next = 0;
        for bucket in 0..=bucket_of(MAX_MICROS) {
            let (low, high) = bounds_of(bucket);
            assert_eq!(low, next);
            assert_eq!((bucket_of(low), bucket_of(high)), (bucket, bucket));
            next = high + 1;
        }
    }

    #[test]
    fn a_time_beyond_all_reason_is_counted() {
        assert_eq!(of_micros([u64::MAX]).count(), 1);
    }

    proptest! {
        #[test]
        fn percentiles_are_within_a_hundredth_of_the_sorted_value(
            mut values in prop::collection::vec(0u64..100_000_000, 1..300),
            fraction in 0.0f64..=1.0,
        ) {
            let histogram = of_micros(values.iter().copied());
            values.sort_unstable();
            let rank = ((fraction * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let exact = values[rank - 1] as f64 / 1000.0;
            let given = histogram.percentile_ms(fraction).unwrap();
            prop_assert!((given - exact).abs() <= exact * 0.008, "{} {}", given, exact);
        }

        #[test]
        fn distributions_rise_to_one(values in prop::collection::vec(0u64..10_000_000, 1..300)) {
            let points = of_micros(values).distribution(50);
            prop_assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1));
            prop_assert_eq!(points.last().unwrap().1, 1.0);
        }
    }
}
