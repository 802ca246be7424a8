//! The block formats of GGML, one unpacker each: bytes to unsigned weights and factors.

use crate::cpu::isa::simd::LANES;
use crate::cpu::tiles::{FactorsK16, FactorsK32, HalfLanes};

/// A format of blocks in a file.
pub(super) trait Block {
    /// What 16 outputs keep beside the weights of one block.
    type Factors: Copy;
    /// Factors of outputs that are not there.
    const EMPTY: Self::Factors;
    /// Weights per block.
    const LEN: usize;
    /// The stored byte that fills lines before outputs are stored; with empty factors any would do.
    const ZERO_LINE: u8 = 0;

    /// Reads a block of output `lane`: its weights, and its factors into their lanes. `bytes` is one whole block.
    fn unpack(bytes: &[u8], lane: usize, factors: &mut Self::Factors, weights: &mut [u8; 256]);
}

pub(super) struct Q4_0;
pub(super) struct Q4_1;
pub(super) struct Q5_0;
pub(super) struct Q5_1;
pub(super) struct Q8_0;
pub(super) struct Q4K;
pub(super) struct Q5K;
pub(super) struct Q6K;

const NO_FACTORS_K32: FactorsK32 =
    FactorsK32 { scale: [0; LANES], neg_min: [0; LANES], scales: [[0; LANES]; 8], mins: [[0; LANES]; 8] };

impl Block for Q4_0 {
    type Factors = HalfLanes;
    const EMPTY: HalfLanes = [0; LANES];
    const LEN: usize = 32;

    fn unpack(bytes: &[u8], lane: usize, factors: &mut HalfLanes, weights: &mut [u8; 256]) {
        factors[lane] = u16_at(bytes, 0);
        nibbles(&bytes[2..18], weights);
    }
}

impl Block for Q4_1 {
    type Factors = [HalfLanes; 2];
    const EMPTY: [HalfLanes; 2] = [[0; LANES]; 2];
    const LEN: usize = 32;

    fn unpack(bytes: &[u8], lane: usize, factors: &mut [HalfLanes; 2], weights: &mut [u8; 256]) {
        factors[0][lane] = u16_at(bytes, 0);
        factors[1][lane] = u16_at(bytes, 2);
        nibbles(&bytes[4..20], weights);
    }
}

impl Block for Q5_0 {
    type Factors = HalfLanes;
    const EMPTY: HalfLanes = [0; LANES];
    const LEN: usize = 32;

    fn unpack(bytes: &[u8], lane: usize, factors: &mut HalfLanes, weights: &mut [u8; 256]) {
        factors[lane] = u16_at(bytes, 0);
        nibbles(&bytes[6..22], weights);
        fifth_bits(&bytes[2..6], weights);
        for weight in &mut weights[..32] {
            *weight += 128 - 16;
        }
    }
}

impl Block for Q5_1 {
    type Factors = [HalfLanes; 2];
    const EMPTY: [HalfLanes; 2] = [[0; LANES]; 2];
    const LEN: usize = 32;

    fn unpack(bytes: &[u8], lane: usize, factors: &mut [HalfLanes; 2], weights: &mut [u8; 256]) {
        factors[0][lane] = u16_at(bytes, 0);
        factors[1][lane] = u16_at(bytes, 2);
        nibbles(&bytes[8..24], weights);
        fifth_bits(&bytes[4..8], weights);
    }
}

impl Block for Q8_0 {
    type Factors = HalfLanes;
    const EMPTY: HalfLanes = [0; LANES];
    const LEN: usize = 32;

    fn unpack(bytes: &[u8], lane: usize, factors: &mut HalfLanes, weights: &mut [u8; 256]) {
        factors[lane] = u16_at(bytes, 0);
        for (weight, byte) in weights.iter_mut().zip(&bytes[2..34]) {
            *weight = byte ^ 0x80;
        }
    }
}

impl Block for Q4K {
    type Factors = FactorsK32;
    const EMPTY: FactorsK32 = NO_FACTORS_K32;
    const LEN: usize = 256;

    fn unpack(bytes: &[u8], lane: usize, factors: &mut FactorsK32, weights: &mut [u8; 256]) {
        factors_k32(bytes, lane, factors);
        for (bytes, weights) in bytes[16..144].chunks(32).zip(weights.chunks_mut(64)) {
            for (at, byte) in bytes.iter().enumerate() {
                weights[at] = byte & 15;
                weights[32 + at] = byte >> 4;
            }
        }
    }
}

impl Block for Q5K {
    type Factors = FactorsK32;
    const EMPTY: FactorsK32 = NO_FACTORS_K32;
    const LEN: usize = 256;

    fn unpack(bytes: &[u8], lane: usize, factors: &mut FactorsK32, weights: &mut [u8; 256]) {
        factors_k32(bytes, lane, factors);
        let high = &bytes[16..48];
        for (pair, (bytes, weights)) in bytes[48..176].chunks(32).zip(weights.chunks_mut(64)).enumerate() {
            for (at, byte) in bytes.iter().enumerate() {
                weights[at] = byte & 15 | (high[at] >> (2 * pair) & 1) << 4;
                weights[32 + at] = byte >> 4 | (high[at] >> (2 * pair + 1) & 1) << 4;
            }
        }
    }
}

impl Block for Q6K {
    type Factors = FactorsK16;
    const EMPTY: FactorsK16 = FactorsK16 { scale: [0; LANES], groups: [[0; LANES]; 16] };
    const LEN: usize = 256;

    fn unpack(bytes: &[u8], lane: usize, factors: &mut FactorsK16, weights: &mut [u8; 256]) {
        let (low, rest) = bytes.split_at(128);
        let (high, rest) = rest.split_at(64);
        for (group, scale) in factors.groups.iter_mut().zip(&rest[..16]) {
            group[lane] = *scale as i8;
        }
        factors.scale[lane] = u16_at(rest, 16);
        for (half, weights) in weights.chunks_mut(128).enumerate() {
            let (low, high) = (&low[64 * half..], &high[32 * half..]);
            for at in 0..32 {
                let high = high[at];
                let six_bits = [
                    low[at] & 15 | (high & 3) << 4,
                    low[at + 32] & 15 | (high >> 2 & 3) << 4,
                    low[at] >> 4 | (high >> 4 & 3) << 4,
                    low[at + 32] >> 4 | (high >> 6) << 4,
                ];
                for (quarter, value) in six_bits.into_iter().enumerate() {
                    weights[32 * quarter + at] = value + (128 - 32);
                }
            }
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// 16 bytes: low nibbles are weights 0..16, high nibbles 16..32.
fn nibbles(bytes: &[u8], weights: &mut [u8; 256]) {
    for (at, byte) in bytes.iter().enumerate() {
        weights[at] = byte & 15;
        weights[16 + at] = byte >> 4;
    }
}

/// 4 bytes: bit `i` is bit 4 of weight `i`.
fn fifth_bits(bytes: &[u8], weights: &mut [u8; 256]) {
    for (at, weight) in weights[..32].iter_mut().enumerate() {
        *weight |= (bytes[at / 8] >> (at % 8) & 1) << 4;
    }
}

/// Two f16 and 12 bytes with eight 6-bit scales and eight 6-bit minima.
fn factors_k32(bytes: &[u8], lane: usize, factors: &mut FactorsK32) {
    const SIGN: u16 = 0x8000;
    factors.scale[lane] = u16_at(bytes, 0);
    factors.neg_min[lane] = u16_at(bytes, 2) ^ SIGN;
    let packed = &bytes[4..16];
    for group in 0..4 {
        factors.scales[group][lane] = packed[group] & 63;
        factors.mins[group][lane] = packed[group + 4] & 63;
        factors.scales[group + 4][lane] = packed[group + 8] & 15 | packed[group] >> 6 << 4;
        factors.mins[group + 4][lane] = packed[group + 8] >> 4 | packed[group + 4] >> 6 << 4;
    }
}
