//! What numbers are stored as, in files and in memory: the words that all backends share.

/// How weights are stored in a model file, in the block formats of GGML.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(non_camel_case_types, reason = "these are the names that every file and tool uses")]
pub enum WeightType {
    /// 32-bit floats.
    F32,
    /// IEEE half floats.
    F16,
    /// The upper half of 32-bit floats.
    BF16,
    /// 32 weights: f16 scale, 4-bit values around 8.
    Q4_0,
    /// 32 weights: f16 scale and minimum, 4-bit values.
    Q4_1,
    /// 32 weights: f16 scale, 5-bit values around 16.
    Q5_0,
    /// 32 weights: f16 scale and minimum, 5-bit values.
    Q5_1,
    /// 32 weights: f16 scale, signed bytes.
    Q8_0,
    /// 256 weights: f16 scale and minimum of eight groups with 6-bit factors, 4-bit values.
    Q4_K,
    /// 256 weights: as `Q4_K` with 5-bit values.
    Q5_K,
    /// 256 weights: f16 scale of sixteen groups with 8-bit factors, 6-bit values around 32.
    Q6_K,
}

impl WeightType {
    /// Every type that weights may have in memory.
    pub const ALL: [WeightType; 11] = [
        WeightType::F32,
        WeightType::F16,
        WeightType::BF16,
        WeightType::Q4_0,
        WeightType::Q4_1,
        WeightType::Q5_0,
        WeightType::Q5_1,
        WeightType::Q8_0,
        WeightType::Q4_K,
        WeightType::Q5_K,
        WeightType::Q6_K,
    ];

    /// Weights per block: the number of inputs of a matrix must be a multiple of it.
    pub fn block_len(self) -> usize {
        match self {
            WeightType::F32 | WeightType::F16 | WeightType::BF16 => 1,
            WeightType::Q4_0 | WeightType::Q4_1 | WeightType::Q5_0 | WeightType::Q5_1 | WeightType::Q8_0 => 32,
            WeightType::Q4_K | WeightType::Q5_K | WeightType::Q6_K => 256,
        }
    }

    /// Bytes of a block in a file.
    pub fn block_bytes(self) -> usize {
        match self {
            WeightType::F32 => 4,
            WeightType::F16 | WeightType::BF16 => 2,
            WeightType::Q4_0 => 18,
            WeightType::Q4_1 => 20,
            WeightType::Q5_0 => 22,
            WeightType::Q5_1 => 24,
            WeightType::Q8_0 => 34,
            WeightType::Q4_K => 144,
            WeightType::Q5_K => 176,
            WeightType::Q6_K => 210,
        }
    }
}

/// The greatest rank of a pair.
pub const MAX_RANK: usize = 256;

/// How the numbers of a pair are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SlabType {
    /// Brain floats: the range of f32.
    Bf16,
    /// IEEE half floats: three more bits of precision.
    F16,
}
