//! Latencies counted as they come, in memory that does not grow with their number.

use std::time::Duration;

/// Each power of two is cut into 128 buckets, so that a value is known to within 0.8 %.
const SIGNIFICANT_DIGITS: u8 = 2;
/// Longer times count as this: 19 hours.
const MAX_MICROS: u64 = 1 << 36;

/// Counts of times by microsecond; exact below 256 µs, within 0.8 % above.
#[derive(Clone, Debug)]
pub(crate) struct Histogram(hdrhistogram::Histogram<u32>);

impl Default for Histogram {
    fn default() -> Self {
        Self(hdrhistogram::Histogram::new(SIGNIFICANT_DIGITS).expect("two digits are within its bounds"))
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(MAX_MICROS).min(MAX_MICROS);
        self.0.record(micros).expect("a histogram that grows has room up to the cap");
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// `None` if nothing was recorded.
    pub(crate) fn mean_ms(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.mean() / 1000.0)
    }

    /// `None` if nothing was recorded.
    pub(crate) fn max_ms(&self) -> Option<f64> {
        self.percentile_ms(1.0)
    }

    /// The least time that at least `fraction` of all times do not exceed; `None` if nothing was recorded.
    pub(crate) fn percentile_ms(&self, fraction: f64) -> Option<f64> {
        let value = self.0.median_equivalent(self.0.value_at_quantile(fraction));
        (!self.0.is_empty()).then(|| value as f64 / 1000.0)
    }

    /// Points (ms, fraction of times not above) of the distribution; about `num_points` of them, more in the tail.
    pub(crate) fn distribution(&self, num_points: u64) -> Vec<(f64, f64)> {
        let count = self.count();
        let mut points: Vec<(f64, f64)> = Vec::new();
        let mut seen = 0u64;
        let mut drawn = 0u64;
        for step in self.0.iter_recorded() {
            seen += u64::from(step.count_at_value());
            // A point is due when the curve rose by a step, or by a tenth of what is left above it.
            let is_due = (seen - drawn) * num_points >= count || (seen - drawn) * 10 >= count - seen;
            if points.is_empty() || is_due {
                drawn = seen;
                points.push((step.value_iterated_to() as f64 / 1000.0, seen as f64 / count as f64));
            }
        }
        points
    }
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
        let is_close = |ms: f64| (ms - 1234.567).abs() <= 1234.567 * 0.008;
        assert!([0.0, 0.5, 1.0].into_iter().all(|fraction| is_close(histogram.percentile_ms(fraction).unwrap())));
        let points = histogram.distribution(100);
        assert!(points.len() == 1 && is_close(points[0].0) && points[0].1 == 1.0, "{points:?}");
    }

    #[test]
    fn nothing_recorded_has_no_percentile() {
        let histogram = Histogram::default();
        assert_eq!((histogram.percentile_ms(0.5), histogram.mean_ms(), histogram.max_ms()), (None, None, None));
        assert!(histogram.distribution(100).is_empty());
    }

    #[test]
    fn a_time_beyond_all_reason_is_counted() {
        let histogram = of_micros([u64::MAX]);
        assert_eq!(histogram.count(), 1);
        assert!((histogram.max_ms().unwrap() / (MAX_MICROS as f64 / 1000.0) - 1.0).abs() <= 0.008);
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
