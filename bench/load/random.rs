//! Seeded random choices. The generator is ours, not a crate's, so that a seed means the same requests in every
//! version of the driver.

use std::time::Duration;

use super::arguments::ArrivalPattern;

/// SplitMix64 (Steele, Lea, Flood 2014): one addition and three mixes a number, equidistributed over 64 bits.
#[derive(Clone, Debug)]
pub(crate) struct Generator {
    state: u64,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to just below 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number from `least` to `most`, both included.
    pub(crate) fn between(&mut self, least: u32, most: u32) -> u32 {
        let span = u64::from(most.saturating_sub(least)) + 1;
        // The high half of the product is below `span`; its bias is at most span / 2^64.
        let offset = (u128::from(self.bits()) * u128::from(span)) >> 64;
        least + u32::try_from(offset).expect("the offset is at most most - least")
    }
}

/// A choice among numbered things with given weights.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    /// Sums of the weights up to and including each thing.
    cumulative: Vec<f64>,
}

impl Choice {
    /// Each with its weight. `weights` must not be empty.
    pub(crate) fn weighted(weights: impl IntoIterator<Item = f64>) -> Self {
        let mut sum = 0.0;
        let cumulative = weights
            .into_iter()
            .map(|weight| {
                sum += weight;
                sum
            })
            .collect();
        Self { cumulative }
    }

    /// The n-th of `num_things` with weight 1 / n^exponent; exponent 0 is uniform.
    pub(crate) fn zipf(num_things: usize, exponent: f64) -> Self {
        Self::weighted((1..=num_things).map(|rank| (rank as f64).powf(-exponent)))
    }

    pub(crate) fn draw(&self, generator: &mut Generator) -> usize {
        let total = self.cumulative.last().copied().unwrap_or(0.0);
        let point = generator.unit() * total;
        // Rounding could put the point on the total itself.
        self.cumulative.partition_point(|sum| *sum <= point).min(self.cumulative.len().saturating_sub(1))
    }
}

/// The gaps between the arrivals of an open loop.
#[derive(Clone, Debug)]
pub(crate) struct Arrivals {
    pattern: ArrivalPattern,
    per_second: f64,
    generator: Generator,
}

impl Arrivals {
    /// The generator is its own, so that the requests do not depend on the arrival pattern.
    pub(crate) fn new(pattern: ArrivalPattern, per_second: f64, seed: u64) -> Self {
        Self { pattern, per_second, generator: Generator::new(!seed) }
    }

    /// Time until the next arrival.
    pub(crate) fn gap(&mut self) -> Duration {
        let seconds = match self.pattern {
            ArrivalPattern::Constant => 1.0 / self.per_second,
            // 1 - unit is never 0, so its logarithm is finite.
            ArrivalPattern::Poisson => -(1.0 - self.generator.unit()).ln() / self.per_second,
        };
        Duration::from_secs_f64(seconds.min(1e9))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_gives_the_published_sequence() {
        let mut generator = Generator::new(1_234_567);
        assert_eq!(generator.bits(), 6_457_827_717_110_365_317);
        assert_eq!(generator.bits(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn between_reaches_both_ends_and_nothing_else() {
        let mut generator = Generator::new(7);
        let drawn: Vec<u32> = (0..1000).map(|_| generator.between(3, 5)).collect();
        assert!((3..=5).all(|number| drawn.contains(&number)));
        assert!(drawn.iter().all(|number| (3..=5).contains(number)));
        assert_eq!(generator.between(9, 9), 9);
        generator.between(0, u32::MAX);
    }

    fn shares(choice: &Choice, num_things: usize) -> Vec<f64> {
        let mut counts = vec![0u32; num_things];
        let mut generator = Generator::new(42);
        let num_draws = 200_000;
        for _ in 0..num_draws {
            counts[choice.draw(&mut generator)] += 1;
        }
        counts.iter().map(|count| f64::from(*count) / f64::from(num_draws)).collect()
    }

    #[test]
    fn zipf_draws_each_rank_as_often_as_the_law_says() {
        // Harmonic number of 4: 1 + 1/2 + 1/3 + 1/4 = 25/12.
        let expected = [12.0 / 25.0, 6.0 / 25.0, 4.0 / 25.0, 3.0 / 25.0];
        for (share, expected) in shares(&Choice::zipf(4, 1.0), 4).iter().zip(expected) {
            // Five standard deviations of 200,000 draws.
            assert!((share - expected).abs() < 0.0056, "{share} {expected}");
        }
        for share in shares(&Choice::zipf(5, 0.0), 5) {
            assert!((share - 0.2).abs() < 0.0045, "{share}");
        }
    }

    #[test]
    fn a_weight_of_nothing_is_never_drawn() {
        let drawn = shares(&Choice::weighted([0.0, 3.0, 0.0, 1.0]), 4);
        assert_eq!((drawn[0], drawn[2]), (0.0, 0.0));
        assert!((drawn[1] - 0.75).abs() < 0.005);
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_the_variance_of_an_exponential() {
        let mut arrivals = Arrivals::new(ArrivalPattern::Poisson, 50.0, 3);
        let gaps: Vec<f64> = (0..100_000).map(|_| arrivals.gap().as_secs_f64()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean - 0.02).abs() < 0.0004, "{mean}");
        assert!((variance.sqrt() - 0.02).abs() < 0.0006, "{variance}");
        // One in e gaps is longer than the mean.
        let longer = gaps.iter().filter(|gap| **gap > 0.02).count() as f64 / gaps.len() as f64;
        assert!((longer - (-1.0f64).exp()).abs() < 0.01, "{longer}");
    }

    #[test]
    fn constant_gaps_are_equal() {
        let mut arrivals = Arrivals::new(ArrivalPattern::Constant, 4.0, 3);
        assert_eq!([arrivals.gap(), arrivals.gap()], [Duration::from_millis(250); 2]);
    }
}
