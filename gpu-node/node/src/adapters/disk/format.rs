//! A packed adapter as one file.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `soukpack` |
//! | 4, 4 | version of this format, and of the kernels' slabs |
//! | 32 | SHA-256 of all that follows |
//! | 32, 32 | digest of the adapter, and of the base it was packed against |
//! | 4 | number of records |
//! | 12 each | records: kind, slab type, DoRA, 0; layer; rank |
//! | rest | the slabs and vectors in the order of the records |
//!
//! Numbers are little-endian. Widths are not written: they are the base's, and a file whose length does not follow from
//! its records and the base's shape is not read. Nothing is allocated that the file's own length does not cover.

use souk_kernels::SlabType;
use souk_kernels::cpu::{LoraPair, PairSizes};
use souk_kernels::{KernelError, MAX_RANK};
use souk_models::adapter::{LayerAdapter, PackedAdapter};
use souk_protocol::peft::{MAX_INVOCATION_TOKENS, Module};
use souk_protocol::{Digest, LlamaShape};

/// Version of the file; the slabs in it have a version of their own.
pub(super) const VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"soukpack";
/// Where the part begins that the checksum covers.
const HASHED_FROM: usize = 48;
const RECORDS_FROM: usize = 116;
const RECORD_BYTES: usize = 12;
/// In place of a layer's number.
const NO_LAYER: u32 = u32::MAX;

/// What a record describes. Modules of a layer have their index in [`Module::OF_LAYER`].
const KIND_LM_HEAD: u8 = 7;
const KIND_ATTN_NORM: u8 = 8;
const KIND_FFN_NORM: u8 = 9;
const KIND_FINAL_NORM: u8 = 10;
/// Invocation tokens; the rank is their number.
const KIND_INVOCATION: u8 = 11;

/// Why bytes are not the packed adapter that they should be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FormatError {
    #[error("the file ends after {0} bytes")]
    Truncated(usize),
    #[error("it is not a packed adapter of version {VERSION}")]
    NotOurs,
    #[error("its digest is {found}, and it says {stated}")]
    Damaged { stated: Digest, found: Digest },
    #[error("it is {what} {found}, and {expected} was asked for")]
    Other { what: &'static str, expected: Digest, found: Digest },
    #[error("record {0} is not valid for this base model")]
    Record(usize),
    #[error("its records describe {expected} bytes, and it has {found}")]
    Length { expected: usize, found: usize },
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// The file of an adapter.
pub(super) fn encode(adapter: &PackedAdapter, base: &Digest) -> Vec<u8> {
    let mut records = Vec::new();
    let mut data = Vec::with_capacity(adapter.size_bytes);
    for (layer, changes) in adapter.layers.iter().enumerate() {
        let layer = u32::try_from(layer).unwrap_or(NO_LAYER);
        for (kind, module) in Module::OF_LAYER.into_iter().enumerate() {
            if let Some(pair) = pair_of(changes, module) {
                records.push(Record::of_pair(kind as u8, layer, pair));
                pair.write_slabs(&mut data);
            }
        }
        for (kind, norm) in [(KIND_ATTN_NORM, &changes.attn_norm), (KIND_FFN_NORM, &changes.ffn_norm)] {
            if let Some(norm) = norm {
                records.push(Record::of_norm(kind, layer));
                data.extend(norm.iter().flat_map(|weight| weight.to_le_bytes()));
            }
        }
    }
    if let Some(pair) = &adapter.lm_head {
        records.push(Record::of_pair(KIND_LM_HEAD, NO_LAYER, pair));
        pair.write_slabs(&mut data);
    }
    if let Some(norm) = &adapter.final_norm {
        records.push(Record::of_norm(KIND_FINAL_NORM, NO_LAYER));
        data.extend(norm.iter().flat_map(|weight| weight.to_le_bytes()));
    }
    if !adapter.invocation_tokens.is_empty() {
        records.push(Record {
            rank: adapter.invocation_tokens.len() as u32,
            ..Record::of_norm(KIND_INVOCATION, NO_LAYER)
        });
        data.extend(adapter.invocation_tokens.iter().flat_map(|token| token.to_le_bytes()));
    }
    let mut file = Vec::with_capacity(RECORDS_FROM + records.len() * RECORD_BYTES + data.len());
    file.extend(MAGIC);
    file.extend(VERSION.to_le_bytes());
    file.extend(LoraPair::LAYOUT.to_le_bytes());
    file.extend([0; 32]);
    file.extend(adapter.digest.as_bytes());
    file.extend(base.as_bytes());
    file.extend((records.len() as u32).to_le_bytes());
    records.iter().for_each(|record| record.write(&mut file));
    file.extend(data);
    let checksum = Digest::of(&file[HASHED_FROM..]);
    file[HASHED_FROM - 32..HASHED_FROM].copy_from_slice(checksum.as_bytes());
    file
}

/// Reads a file that should hold `digest`, packed against `base` of this shape.
pub(super) fn decode(
    file: &[u8],
    digest: &Digest,
    base: &Digest,
    shape: &LlamaShape,
) -> Result<PackedAdapter, FormatError> {
    let records = check_header(file, digest, base)?;
    let mut adapter = PackedAdapter::empty(*digest, shape.num_layers);
    let mut data = Input(&file[RECORDS_FROM + records.len() * RECORD_BYTES..]);
    let sizes: Vec<_> = records.iter().map(|record| record.num_bytes(shape)).collect();
    if let Some(at) = sizes.iter().position(Option::is_none) {
        return Err(FormatError::Record(at));
    }
    let expected = sizes.iter().flatten().fold(0usize, |sum, bytes| sum.saturating_add(*bytes));
    if expected != data.0.len() {
        return Err(FormatError::Length { expected, found: data.0.len() });
    }
    for (at, (record, size)) in records.iter().zip(sizes.into_iter().flatten()).enumerate() {
        let bytes = data.take(size).ok_or(FormatError::Truncated(file.len()))?;
        if !record.read_into(&mut adapter, bytes, shape)? {
            return Err(FormatError::Record(at));
        }
    }
    adapter.size_bytes = adapter.measure_bytes();
    Ok(adapter)
}

fn check_header(file: &[u8], digest: &Digest, base: &Digest) -> Result<Vec<Record>, FormatError> {
    let truncated = || FormatError::Truncated(file.len());
    let mut header = Input(file);
    let magic = header.take(8).ok_or_else(truncated)?;
    let versions = (header.number().ok_or_else(truncated)?, header.number().ok_or_else(truncated)?);
    if magic != MAGIC || versions != (VERSION, LoraPair::LAYOUT) {
        return Err(FormatError::NotOurs);
    }
    let stated = header.digest().ok_or_else(truncated)?;
    let found = Digest::of(header.0);
    if stated != found {
        return Err(FormatError::Damaged { stated, found });
    }
    for (what, expected) in [("the adapter", digest), ("for the base model", base)] {
        let found = header.digest().ok_or_else(truncated)?;
        if found != *expected {
            return Err(FormatError::Other { what, expected: *expected, found });
        }
    }
    let num_records = header.number().ok_or_else(truncated)? as usize;
    let records = header.take(num_records.saturating_mul(RECORD_BYTES)).ok_or_else(truncated)?;
    Ok(records.as_chunks::<RECORD_BYTES>().0.iter().map(Record::read).collect())
}

/// One slab or vector of the file.
#[derive(Clone, Copy)]
struct Record {
    kind: u8,
    slab: u8,
    gain: u8,
    layer: u32,
    rank: u32,
}

impl Record {
    fn of_pair(kind: u8, layer: u32, pair: &LoraPair) -> Self {
        let sizes = pair.sizes();
        let slab = match sizes.slab_type {
            SlabType::Bf16 => 0,
            SlabType::F16 => 1,
        };
        Self { kind, slab, gain: sizes.has_gain.into(), layer, rank: sizes.rank as u32 }
    }

    fn of_norm(kind: u8, layer: u32) -> Self {
        Self { kind, slab: 0, gain: 0, layer, rank: 0 }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend([self.kind, self.slab, self.gain, 0]);
        out.extend(self.layer.to_le_bytes());
        out.extend(self.rank.to_le_bytes());
    }

    fn read(bytes: &[u8; RECORD_BYTES]) -> Self {
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Self { kind: bytes[0], slab: bytes[1], gain: bytes[2], layer: number(4), rank: number(8) }
    }

    /// The pair's sizes; `None` if this is no valid pair.
    fn pair_sizes(&self, shape: &LlamaShape) -> Option<PairSizes> {
        let module = Module::OF_LAYER.get(usize::from(self.kind)).copied();
        let module = if self.kind == KIND_LM_HEAD { Module::LmHead } else { module? };
        let rank = self.rank as usize;
        let slab_type = match self.slab {
            0 => SlabType::Bf16,
            1 => SlabType::F16,
            _ => return None,
        };
        ((1..=MAX_RANK).contains(&rank) && self.gain <= 1).then(|| PairSizes {
            rank,
            in_features: module.in_features(shape),
            out_features: module.out_features(shape),
            slab_type,
            has_gain: self.gain == 1,
        })
    }

    /// Bytes of what it describes; `None` if it is not valid.
    fn num_bytes(&self, shape: &LlamaShape) -> Option<usize> {
        let needs_layer = !matches!(self.kind, KIND_LM_HEAD | KIND_FINAL_NORM | KIND_INVOCATION);
        let has_layer = (self.layer as usize) < shape.num_layers;
        if needs_layer != has_layer || (!needs_layer && self.layer != NO_LAYER) {
            return None;
        }
        match self.kind {
            KIND_ATTN_NORM | KIND_FFN_NORM | KIND_FINAL_NORM => Some(shape.hidden_size * size_of::<f32>()),
            KIND_INVOCATION => (1..=MAX_INVOCATION_TOKENS)
                .contains(&(self.rank as usize))
                .then(|| self.rank as usize * size_of::<u32>()),
            _ => self.pair_sizes(shape).map(|sizes| sizes.num_bytes()),
        }
    }

    /// Puts what the bytes hold into its place. False if the place is taken.
    fn read_into(&self, adapter: &mut PackedAdapter, bytes: &[u8], shape: &LlamaShape) -> Result<bool, FormatError> {
        if self.kind == KIND_INVOCATION {
            let is_free = adapter.invocation_tokens.is_empty();
            adapter.invocation_tokens =
                bytes.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
            return Ok(is_free);
        }
        let layer = adapter.layers.get_mut(self.layer as usize);
        let norm = match (self.kind, layer) {
            (KIND_FINAL_NORM, _) => &mut adapter.final_norm,
            (KIND_ATTN_NORM, Some(layer)) => &mut layer.attn_norm,
            (KIND_FFN_NORM, Some(layer)) => &mut layer.ffn_norm,
            (_, layer) => {
                let Some(sizes) = self.pair_sizes(shape) else { return Ok(false) };
                let place = match layer {
                    Some(layer) => layer.pair_mut(Module::OF_LAYER[usize::from(self.kind)]),
                    None => Some(&mut adapter.lm_head),
                };
                let Some(place) = place.filter(|place| place.is_none()) else { return Ok(false) };
                *place = Some(LoraPair::read_slabs(sizes, bytes)?);
                return Ok(true);
            }
        };
        let is_free = norm.is_none();
        *norm = Some(bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect());
        Ok(is_free)
    }
}

/// Bytes that are taken from the front.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        self.take(4)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn digest(&mut self) -> Option<Digest> {
        self.take(32)?.first_chunk().map(|bytes| Digest::from_bytes(*bytes))
    }
}

fn pair_of(layer: &LayerAdapter, module: Module) -> Option<&LoraPair> {
    match module {
        Module::Q => layer.q.as_ref(),
        Module::K => layer.k.as_ref(),
        Module::V => layer.v.as_ref(),
        Module::O => layer.o.as_ref(),
        Module::Gate => layer.gate.as_ref(),
        Module::Up => layer.up.as_ref(),
        Module::Down => layer.down.as_ref(),
        Module::LmHead => None,
    }
}

#[cfg(test)]
mod tests;
