//! Slabs as bytes, for caches on disk.

use super::{LoraPair, PairSizes};
use crate::cpu::isa::simd::LANES;
use crate::error::{KernelError, check_equal, check_limit};
use crate::format::MAX_RANK;

const VECTOR_BYTES: usize = size_of::<[u16; LANES]>();

impl LoraPair {
    /// Number of the layout that [`Self::write_slabs`] writes. It changes whenever that of the slabs does, so that what
    /// was written before is never read wrongly.
    pub const LAYOUT: u32 = 1;

    /// What [`Self::read_slabs`] must be told.
    pub fn sizes(&self) -> PairSizes {
        PairSizes {
            rank: self.rank,
            in_features: self.in_features,
            out_features: self.out_features,
            slab_type: self.slab_type,
            has_gain: self.gain.is_some(),
        }
    }

    /// Appends A, B and the gain as they lie in memory, little-endian: [`Self::size_bytes`] bytes.
    pub fn write_slabs(&self, out: &mut Vec<u8>) {
        out.reserve(self.size_bytes());
        for slab in [&self.a, &self.b] {
            out.extend(slab.as_flattened().iter().flat_map(|bits| bits.to_le_bytes()));
        }
        out.extend(self.gain.iter().flatten().flat_map(|gain| gain.to_le_bytes()));
    }

    /// The pair whose slabs [`Self::write_slabs`] wrote.
    ///
    /// ```
    /// use souk_kernels::SlabType;
    /// use souk_kernels::cpu::LoraPair;
    /// let pair = LoraPair::pack(1, 2, 3, &[1.0, 2.0], &[1.0, 0.0, -1.0], 0.5, SlabType::Bf16)?;
    /// let mut bytes = Vec::new();
    /// pair.write_slabs(&mut bytes);
    /// let again = LoraPair::read_slabs(pair.sizes(), &bytes)?;
    /// assert_eq!(again.b_f32(), [0.5, 0.0, -0.5]);
    /// # Ok::<(), souk_kernels::KernelError>(())
    /// ```
    pub fn read_slabs(sizes: PairSizes, bytes: &[u8]) -> Result<LoraPair, KernelError> {
        const OP: &str = "LoraPair::read_slabs";
        let PairSizes { rank, in_features, out_features, slab_type, has_gain } = sizes;
        check_limit(OP, "rank", MAX_RANK, rank)?;
        check_equal(OP, "bytes", sizes.num_bytes(), bytes.len())?;
        let (a, rest) = bytes.split_at(rank * in_features.div_ceil(LANES) * VECTOR_BYTES);
        let (b, gain) = rest.split_at(rank * out_features.div_ceil(LANES) * VECTOR_BYTES);
        let gain = has_gain.then(|| gain.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect());
        Ok(LoraPair { rank, in_features, out_features, slab_type, a: vectors(a), b: vectors(b), gain })
    }
}

fn vectors(bytes: &[u8]) -> Vec<[u16; LANES]> {
    let vectors = bytes.as_chunks::<VECTOR_BYTES>().0.iter();
    vectors.map(|bytes| std::array::from_fn(|at| u16::from_le_bytes([bytes[2 * at], bytes[2 * at + 1]]))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::SlabType;

    #[test]
    fn slabs_come_back_as_they_were_and_bytes_of_another_length_are_refused() {
        let numbers = |count: usize| (0..count).map(|at| at as f32 / 7.0 - 3.0).collect::<Vec<_>>();
        for (slab_type, gain) in [(SlabType::F16, None), (SlabType::Bf16, Some(numbers(21)))] {
            let mut pair = LoraPair::pack(3, 17, 21, &numbers(51), &numbers(63), 2.0, slab_type).unwrap();
            if let Some(gain) = gain {
                pair = pair.with_gain(gain).unwrap();
            }
            let mut bytes = vec![1, 2, 3];
            pair.write_slabs(&mut bytes);
            assert_eq!(bytes.len(), 3 + pair.size_bytes());
            let again = LoraPair::read_slabs(pair.sizes(), &bytes[3..]).unwrap();
            assert_eq!((again.a_f32(), again.b_f32()), (pair.a_f32(), pair.b_f32()));
            assert_eq!((again.gain(), again.sizes()), (pair.gain(), pair.sizes()));
            assert!(LoraPair::read_slabs(pair.sizes(), &bytes).is_err());
            assert!(LoraPair::read_slabs(PairSizes { rank: 4, ..pair.sizes() }, &bytes[3..]).is_err());
        }
        let sizes = PairSizes {
            rank: MAX_RANK + 1,
            in_features: 1,
            out_features: 1,
            slab_type: SlabType::F16,
            has_gain: false,
        };
        assert!(matches!(LoraPair::read_slabs(sizes, &[]), Err(KernelError::Limit { limit: MAX_RANK, .. })));
    }
}
