//! From checked files to slabs: numbers are converted once, scale and DoRA's gain are worked in here, and nothing is
//! left to do while the adapter runs.

use souk_kernels::KernelError;
use souk_kernels::SlabType;
use souk_kernels::cpu::LoraPair;
use souk_kernels::cpu::Matrix;
use souk_protocol::peft::{AdapterPlan, Module, ModuleSite, NormSite, PairPlan, TensorEntry, TensorType, is_packable};
use souk_protocol::{Digest, LlamaShape};

use super::packed::PackedAdapter;
use crate::base::LlamaWeights;

/// Largest finite half-precision number.
const MAX_F16: f32 = 65504.0;

/// Most that the head in an adapter file may differ from the base's, as a share of its square sum. Four-bit weights
/// differ by less than 0.01 from what they were made of; the heads of two models by about 2.
const MOST_HEAD_DIFFERENCE: f64 = 0.1;
/// Rows of the head that are compared.
const COMPARED_HEAD_ROWS: usize = 512;

/// Why a checked adapter has no slabs.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PackError {
    /// The weights end before a tensor does.
    #[error("the weights end before the tensor `{0}` does")]
    Truncated(String),
    /// A number overflows: the scale times B, or DoRA's gain where a row of the adapted matrix is zero.
    #[error("{site}: the {what} of output {output} is {value}, which is not finite when it is packed")]
    NotFinite {
        /// Path of the module.
        site: String,
        /// Which number.
        what: &'static str,
        /// Row of the matrix.
        output: usize,
        /// The number.
        value: f32,
    },
    /// The output head that the file has along with a pair on it is not the base's.
    #[error(
        "the file's own copy of lm_head differs from the base model's by {difference:.2} of its square sum (at most \
         {MOST_HEAD_DIFFERENCE} is rounding): the adapter was made for another base model"
    )]
    OtherHead {
        /// Square sum of the difference over that of the base's rows.
        difference: f64,
    },
    /// The kernels refuse the pair.
    #[error("{site}: {reason}")]
    Kernel {
        /// Path of the module.
        site: String,
        /// What the kernels say.
        reason: String,
    },
}

/// Packs the adapter that `plan` describes. `data` is the data section of its weights file, `base` the model that the
/// plan was checked against.
///
/// # Errors
/// [`PackError`] where a number overflows or `data` is shorter than the plan says.
pub fn pack(digest: Digest, plan: &AdapterPlan, data: &[u8], base: &LlamaWeights) -> Result<PackedAdapter, PackError> {
    let mut adapter = PackedAdapter::empty(digest, base.shape.num_layers);
    if let Some(copy) = &plan.head_copy {
        check_head(copy, data, base.head())?;
    }
    for pair in &plan.pairs {
        let packed = pack_pair(pair, data, base)?;
        *pair_slot(&mut adapter, pair.site) = Some(packed);
    }
    for norm in &plan.norms {
        let weights = read_f32(&norm.weights, data)?;
        match norm.site {
            NormSite::Attention(layer) => adapter.layers[layer].attn_norm = Some(weights),
            NormSite::FeedForward(layer) => adapter.layers[layer].ffn_norm = Some(weights),
            NormSite::Final => adapter.final_norm = Some(weights),
        }
    }
    adapter.invocation_tokens.clone_from(&plan.invocation_tokens);
    adapter.size_bytes = adapter.measure_bytes();
    Ok(adapter)
}

/// The bytes that [`pack`] will need for the adapter, known before its weights are converted.
#[must_use]
pub fn packed_bytes(plan: &AdapterPlan, shape: &LlamaShape) -> usize {
    let pairs = plan.pairs.iter().map(|pair| {
        let module = pair.site.module;
        let (width, height) = (module.in_features(shape), module.out_features(shape));
        LoraPair::packed_bytes(pair.rank, width, height, pair.magnitude.is_some())
    });
    let norms = plan.norms.iter().map(|norm| norm.weights.num_elements() * size_of::<f32>());
    pairs.chain(norms).sum()
}

fn pack_pair(pair: &PairPlan, data: &[u8], base: &LlamaWeights) -> Result<LoraPair, PackError> {
    let site = pair.site;
    let matrix = base_matrix(base, site);
    let (a, b) = (read_f32(&pair.a, data)?, read_f32(&pair.b, data)?);
    if let Some(index) = a.iter().position(|value| !is_packable(*value)) {
        let (output, value) = (index / matrix.in_features().max(1), a[index]);
        return Err(PackError::NotFinite { site: site.to_string(), what: "A", output, value });
    }
    let largest = largest_scaled(&b, pair, site)?;
    // Half floats keep three more bits than brain floats; a file that has them is not made worse unless the scale
    // carries a number out of their range.
    let is_half = pair.a.dtype == TensorType::F16 && pair.b.dtype == TensorType::F16;
    let slab = if is_half && largest <= MAX_F16 { SlabType::F16 } else { SlabType::Bf16 };
    let kernel = |error: KernelError| PackError::Kernel { site: site.to_string(), reason: error.to_string() };
    let (width, height) = (matrix.in_features(), matrix.out_features());
    let packed = LoraPair::pack(pair.rank, width, height, &a, &b, pair.scale, slab).map_err(kernel)?;
    match &pair.magnitude {
        None => Ok(packed),
        Some(magnitude) => {
            let gain = dora_gain(matrix, pair, &a, &b, &read_f32(magnitude, data)?)?;
            packed.with_gain(gain).map_err(kernel)
        }
    }
}

/// The largest magnitude of `scale * B`.
fn largest_scaled(b: &[f32], pair: &PairPlan, site: ModuleSite) -> Result<f32, PackError> {
    let mut largest = 0.0f32;
    for (index, value) in b.iter().enumerate() {
        let value = pair.scale * value;
        if !is_packable(value) {
            let output = index / pair.rank;
            return Err(PackError::NotFinite { site: site.to_string(), what: "scaled B", output, value });
        }
        largest = largest.max(value.abs());
    }
    Ok(largest)
}

/// DoRA's factor for each output: magnitude / |row of W + scale * B A|, over the base's own (dequantised) rows.
fn dora_gain(matrix: &Matrix, pair: &PairPlan, a: &[f32], b: &[f32], magnitude: &[f32]) -> Result<Vec<f32>, PackError> {
    let width = matrix.in_features();
    let mut row = vec![0.0f32; width];
    let mut gain = Vec::with_capacity(magnitude.len());
    for (output, (magnitude, b_row)) in magnitude.iter().zip(b.chunks_exact(pair.rank)).enumerate() {
        matrix.dequantize_row(output, &mut row);
        for (b, a_row) in b_row.iter().zip(a.chunks_exact(width)) {
            let factor = pair.scale * b;
            row.iter_mut().zip(a_row).for_each(|(weight, a)| *weight += factor * a);
        }
        let sum: f64 = row.iter().map(|weight| f64::from(*weight) * f64::from(*weight)).sum();
        // Narrowed once, at the end.
        let value = (f64::from(*magnitude) / sum.sqrt()) as f32;
        if !value.is_finite() {
            return Err(PackError::NotFinite { site: pair.site.to_string(), what: "DoRA gain", output, value });
        }
        gain.push(value);
    }
    Ok(gain)
}

/// Compares rows of a copy of the head with the base's own.
fn check_head(copy: &TensorEntry, data: &[u8], head: &Matrix) -> Result<(), PackError> {
    let bytes = tensor_bytes(copy, data)?;
    let width = head.in_features();
    let row_bytes = width * copy.dtype.size_bytes();
    let stride = head.out_features().div_ceil(COMPARED_HEAD_ROWS);
    let mut row = vec![0.0f32; width];
    let (mut difference, mut total) = (0.0f64, 0.0f64);
    for (output, copied) in bytes.chunks_exact(row_bytes).enumerate().step_by(stride.max(1)) {
        head.dequantize_row(output, &mut row);
        for (weight, copied) in row.iter().zip(to_f32(copy.dtype, copied)) {
            difference += f64::from(copied - weight).powi(2);
            total += f64::from(*weight).powi(2);
        }
    }
    if difference > MOST_HEAD_DIFFERENCE * total {
        return Err(PackError::OtherHead { difference: difference / total });
    }
    Ok(())
}

fn read_f32(tensor: &TensorEntry, data: &[u8]) -> Result<Vec<f32>, PackError> {
    Ok(to_f32(tensor.dtype, tensor_bytes(tensor, data)?))
}

fn tensor_bytes<'a>(tensor: &TensorEntry, data: &'a [u8]) -> Result<&'a [u8], PackError> {
    tensor.bytes(data).ok_or_else(|| PackError::Truncated(tensor.name.clone()))
}

fn to_f32(dtype: TensorType, bytes: &[u8]) -> Vec<f32> {
    let halves = || bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    match dtype {
        TensorType::F16 => halves().map(|bits| half::f16::from_bits(bits).to_f32()).collect(),
        TensorType::BF16 => halves().map(|bits| half::bf16::from_bits(bits).to_f32()).collect(),
        TensorType::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
    }
}

/// The place of a pair in an adapter. The plan has layers of the base only.
fn pair_slot(adapter: &mut PackedAdapter, site: ModuleSite) -> &mut Option<LoraPair> {
    let layer = site.layer.map(|layer| &mut adapter.layers[layer]);
    layer.and_then(|layer| layer.pair_mut(site.module)).unwrap_or(&mut adapter.lm_head)
}

/// The base's matrix at the site.
fn base_matrix(base: &LlamaWeights, site: ModuleSite) -> &Matrix {
    let Some(layer) = site.layer else { return base.head() };
    let layer = &base.layers[layer];
    match site.module {
        Module::Q => &layer.q,
        Module::K => &layer.k,
        Module::V => &layer.v,
        Module::O => &layer.o,
        Module::Gate => &layer.gate,
        Module::Up => &layer.up,
        Module::Down => &layer.down,
        Module::LmHead => base.head(),
    }
}

#[cfg(test)]
mod tests;
