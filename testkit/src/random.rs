//! Numbers that repeat.

/// Numbers that follow from a seed: SplitMix64 (Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of this seed; seeds beside each other have nothing in common.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is small against 2^64.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.bits() % limit
    }

    /// Even over -1 to just below 1.
    pub fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// So many of them.
    pub fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }

    /// So many bytes of any value.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.bits() >> 56) as u8).collect()
    }

    /// One of `items`, the n-th 1/n times as often as the first (Zipf's law with exponent 1).
    pub fn zipf<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let total: f64 = (1..=items.len()).map(|rank| 1.0 / rank as f64).sum();
        let mut left = self.bits() as f64 / u64::MAX as f64 * total;
        for (index, item) in items.iter().enumerate() {
            left -= 1.0 / (index + 1) as f64;
            if left <= 0.0 {
                return item;
            }
        }
        &items[items.len() - 1]
    }
}

/// 64 bits that follow from `value` alone.
pub fn hash(value: u64) -> u64 {
    Random(value).bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_sequence_comes() {
        let mut random = Random::new(1_234_567);
        assert_eq!([random.bits(), random.bits()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn numbers_are_within_their_bounds() {
        let mut random = Random::new(7);
        assert!(random.floats(10_000).iter().all(|number| (-1.0..1.0).contains(number)));
        let drawn: Vec<u64> = (0..1000).map(|_| random.below(3)).collect();
        assert!((0..3).all(|number| drawn.contains(&number)) && drawn.iter().all(|number| *number < 3));
    }

    #[test]
    fn the_first_of_two_comes_twice_as_often_under_zipf() {
        let mut random = Random::new(7);
        let num_first = (0..30_000).filter(|_| *random.zipf(&[true, false])).count();
        assert!((19_500..20_500).contains(&num_first), "{num_first}");
    }
}
