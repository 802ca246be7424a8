//! Seeded random choices. The generator is one that its crate promises never to change, and the laws are rand_distr's:
//! a seed means the same requests until these crates are raised in Cargo.lock.

use std::time::Duration;

use clap::ValueEnum;
use rand::distr::Distribution as _;
use rand::distr::weighted::WeightedIndex;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt as _, SeedableRng as _};
use rand_distr::{Exp, Zipf};

/// Where all random choices of a run come from.
#[derive(Debug)]
pub(crate) struct Generator(ChaCha8Rng);

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number from `least` to `most`, both included.
    pub(crate) fn between(&mut self, least: u32, most: u32) -> u32 {
        self.0.random_range(least..=most)
    }

    /// One of `num_things`, of which there must be one.
    pub(crate) fn index(&mut self, num_things: usize) -> usize {
        self.0.random_range(0..num_things)
    }

    /// A time from the exponential law of this mean, which is above 0.
    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        Exp::new(1.0 / mean).expect("a mean is above 0").sample(&mut self.0)
    }
}

/// A choice among numbered things.
#[derive(Clone, Debug)]
pub(crate) enum Choice {
    Weighted(WeightedIndex<f64>),
    Zipf(Zipf<f64>),
}

impl Choice {
    /// Each with its weight. There must be one, and one above 0.
    pub(crate) fn weighted(weights: impl IntoIterator<Item = f64>) -> Self {
        Self::Weighted(WeightedIndex::new(weights).expect("shares are above 0"))
    }

    /// The n-th of `num_things` with weight 1 / n^exponent; exponent 0 is uniform.
    pub(crate) fn zipf(num_things: usize, exponent: f64) -> Self {
        Self::Zipf(Zipf::new(num_things as f64, exponent).expect("there is a thing, and the exponent is not negative"))
    }

    pub(crate) fn draw(&self, generator: &mut Generator) -> usize {
        match self {
            Self::Weighted(law) => law.sample(&mut generator.0),
            // Whole numbers from 1 on.
            Self::Zipf(law) => law.sample(&mut generator.0) as usize - 1,
        }
    }
}

/// The gaps between arrivals in an open loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ArrivalPattern {
    /// Equal gaps.
    Constant,
    /// Exponential gaps.
    Poisson,
}

/// The gaps between the arrivals of an open loop.
#[derive(Debug)]
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
            ArrivalPattern::Poisson => {
                Exp::new(self.per_second).expect("a rate is above 0").sample(&mut self.generator.0)
            }
        };
        Duration::from_secs_f64(seconds.min(1e9))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_choices_in_every_version_of_the_driver() {
        let mut generator = Generator::new(1);
        let drawn: Vec<u32> = (0..4).map(|_| generator.between(0, 999)).collect();
        let zipf = Choice::zipf(100, 1.0);
        let chosen: Vec<usize> = (0..4).map(|_| zipf.draw(&mut generator)).collect();
        let gap = Arrivals::new(ArrivalPattern::Poisson, 1.0, 1).gap().as_micros();
        assert_eq!(
            (drawn.as_slice(), chosen.as_slice(), gap),
            (&[549, 402, 984, 80][..], &[10, 1, 4, 49][..], 802_958)
        );
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

    #[test]
    fn laws_at_their_edges_draw_what_there_is() {
        let mut generator = Generator::new(1);
        for exponent in [0.0, 1e-12, 1.0, 60.0, 1e9] {
            assert_eq!(Choice::zipf(1, exponent).draw(&mut generator), 0);
            let law = Choice::zipf(1_000_000, exponent);
            assert!((0..1000).all(|_| law.draw(&mut generator) < 1_000_000), "{exponent}");
        }
        for per_second in [1e-300, 1e-9, 1e9] {
            assert!(Arrivals::new(ArrivalPattern::Poisson, per_second, 1).gap() <= Duration::from_secs(1_000_000_000));
        }
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
