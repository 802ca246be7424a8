//! Random numbers that are the same in every run, and adapters made of them.

use std::sync::Arc;

use souk_kernels::SlabType;
use souk_kernels::cpu::LoraPair;
use souk_models::adapter::PackedAdapter;
use souk_protocol::{Digest, LlamaShape};
use souk_runner::DeviceAdapter;

/// Adapters that are dealt out to the sequences in turn; none for the base.
pub(crate) struct AdapterSet {
    pub(crate) label: &'static str,
    pub(crate) adapters: Vec<Arc<DeviceAdapter>>,
}

#[derive(Clone, Copy)]
enum Targets {
    QueryValue,
    AllLinear,
}

/// The base, and the adapters that are measured beside it.
pub(crate) fn adapter_sets(shape: &LlamaShape) -> Vec<AdapterSet> {
    let sets = [
        (0, 0, Targets::QueryValue, "none (base)"),
        (16, 8, Targets::QueryValue, "16 different, r=8 q,v"),
        (25, 8, Targets::QueryValue, "25 different, r=8 q,v"),
        (16, 16, Targets::AllLinear, "16 different, r=16 all linear"),
        (25, 16, Targets::AllLinear, "25 different, r=16 all linear"),
    ];
    let make = |(count, rank, targets, label)| AdapterSet {
        label,
        adapters: (0..count).map(|seed| adapter(shape, rank, targets, seed)).collect(),
    };
    sets.map(make).into()
}

fn adapter(shape: &LlamaShape, rank: usize, targets: Targets, seed: u64) -> Arc<DeviceAdapter> {
    let mut adapter = PackedAdapter::empty(Digest::of(&seed.to_le_bytes()), shape.num_layers);
    let (hidden, ffn) = (shape.hidden_size, shape.intermediate_size);
    let mut state = hash(seed + 1);
    let mut pair = |inputs: usize, outputs: usize| {
        let mut numbers = |count: usize| -> Vec<f32> {
            let mut next = || {
                state = hash(state);
                (state >> 40) as f32 / (1u64 << 24) as f32 * 0.02 - 0.01
            };
            (0..count).map(|_| next()).collect()
        };
        let (a, b) = (numbers(rank * inputs), numbers(outputs * rank));
        Some(LoraPair::pack(rank, inputs, outputs, &a, &b, 1.0, SlabType::Bf16).expect("the shapes agree"))
    };
    for layer in &mut adapter.layers {
        layer.q = pair(hidden, shape.query_size());
        layer.v = pair(hidden, shape.kv_size());
        if matches!(targets, Targets::AllLinear) {
            layer.k = pair(hidden, shape.kv_size());
            layer.o = pair(shape.query_size(), hidden);
            layer.gate = pair(hidden, ffn);
            layer.up = pair(hidden, ffn);
            layer.down = pair(ffn, hidden);
        }
    }
    adapter.size_bytes = adapter.measure_bytes();
    Arc::new(Arc::new(adapter).on_cpu())
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
pub(crate) fn hash(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
