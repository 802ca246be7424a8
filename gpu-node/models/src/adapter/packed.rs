//! An adapter in host memory: one pair of matrices per adapted matrix of the base, in the layout of the kernels.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use souk_kernels::cpu::LoraPair;
use souk_protocol::peft::Module;
use souk_protocol::{Digest, TokenId};
use souk_runner::DeviceAdapter;

/// An adapter whose numbers are converted and scaled. Rows are in Hugging Face order throughout, as the base model's
/// are.
///
/// On the CPU the device is host memory: these are the slabs that the runner reads, and coming to the device copies
/// nothing.
pub struct PackedAdapter {
    /// Digest of the version's manifest.
    pub digest: Digest,
    /// Bytes that the slabs and vectors below occupy; what the budgets count.
    pub size_bytes: usize,
    /// It acts from the last occurrence of these tokens in the prompt on, from the first of them; empty: it always
    /// acts.
    pub invocation_tokens: Vec<TokenId>,
    /// One entry for each layer of the base model.
    pub layers: Vec<LayerAdapter>,
    /// The pair on the output head.
    pub lm_head: Option<LoraPair>,
    /// Replaces the weights of the last norm.
    pub final_norm: Option<Vec<f32>>,
}

/// What an adapter changes in one layer; `None` leaves the base as it is.
#[derive(Default)]
pub struct LayerAdapter {
    /// On `self_attn.q_proj`.
    pub q: Option<LoraPair>,
    /// On `self_attn.k_proj`.
    pub k: Option<LoraPair>,
    /// On `self_attn.v_proj`.
    pub v: Option<LoraPair>,
    /// On `self_attn.o_proj`.
    pub o: Option<LoraPair>,
    /// On `mlp.gate_proj`.
    pub gate: Option<LoraPair>,
    /// On `mlp.up_proj`.
    pub up: Option<LoraPair>,
    /// On `mlp.down_proj`.
    pub down: Option<LoraPair>,
    /// Replaces the weights of `input_layernorm`.
    pub attn_norm: Option<Vec<f32>>,
    /// Replaces the weights of `post_attention_layernorm`.
    pub ffn_norm: Option<Vec<f32>>,
}

impl PackedAdapter {
    /// An adapter that changes nothing yet, on a base of `num_layers` layers. Packing fills it.
    #[must_use]
    pub fn empty(digest: Digest, num_layers: usize) -> Self {
        let layers = (0..num_layers).map(|_| LayerAdapter::default()).collect();
        Self { digest, size_bytes: 0, invocation_tokens: Vec::new(), layers, lm_head: None, final_norm: None }
    }

    /// The adapter on the CPU, where it shares the memory of this one.
    #[must_use]
    pub fn on_cpu(self: Arc<Self>) -> DeviceAdapter {
        let (digest, size_bytes, invocation_tokens) = (self.digest, self.size_bytes, self.invocation_tokens.clone());
        DeviceAdapter::new(digest, size_bytes, invocation_tokens, self as Arc<dyn Any + Send + Sync>)
    }

    /// Bytes of all slabs and vectors as they are now.
    #[must_use]
    pub fn measure_bytes(&self) -> usize {
        let norm_bytes = |norm: &Option<Vec<f32>>| norm.as_ref().map_or(0, |norm| size_of_val(norm.as_slice()));
        let layers: usize = self
            .layers
            .iter()
            .map(|layer| {
                let pairs: usize = layer.pairs().map(LoraPair::size_bytes).sum();
                pairs + norm_bytes(&layer.attn_norm) + norm_bytes(&layer.ffn_norm)
            })
            .sum();
        layers + self.lm_head.as_ref().map_or(0, LoraPair::size_bytes) + norm_bytes(&self.final_norm)
    }
}

impl LayerAdapter {
    /// The place of a module's pair; `None` for the head, which belongs to no layer.
    pub fn pair_mut(&mut self, module: Module) -> Option<&mut Option<LoraPair>> {
        match module {
            Module::Q => Some(&mut self.q),
            Module::K => Some(&mut self.k),
            Module::V => Some(&mut self.v),
            Module::O => Some(&mut self.o),
            Module::Gate => Some(&mut self.gate),
            Module::Up => Some(&mut self.up),
            Module::Down => Some(&mut self.down),
            Module::LmHead => None,
        }
    }

    /// The pairs that are present, in the order of the fields.
    pub fn pairs(&self) -> impl Iterator<Item = &LoraPair> {
        [&self.q, &self.k, &self.v, &self.o, &self.gate, &self.up, &self.down].into_iter().flatten()
    }
}

impl fmt::Debug for PackedAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackedAdapter")
            .field("digest", &self.digest)
            .field("size_bytes", &self.size_bytes)
            .finish_non_exhaustive()
    }
}
