//! The adapters of one generation.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use souk_protocol::{Digest, TokenId};
use souk_runner::DeviceAdapter;

/// The adapters of one generation, in order of application, and where each begins to act.
#[derive(Clone, Debug)]
pub(crate) struct AdapterSet {
    /// Ascending, the first from position 0 on; the last has all adapters that act at all.
    stages: Vec<Stage>,
}

/// What acts from one position on, up to the next stage.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    /// First position.
    pub(crate) from: usize,
    /// Content and weights, for order and equality: two loads of one adapter are the same.
    key: Vec<(Digest, u32)>,
    /// What the runner gets.
    pub(crate) adapters: Arc<[(Arc<DeviceAdapter>, f32)]>,
}

impl AdapterSet {
    /// The adapters of a generation with this prompt, which decides where activated ones begin; none for the base
    /// model. One without weight is off: times zero, a number that is not finite would still be none.
    #[must_use]
    pub(crate) fn new(adapters: &[(Arc<DeviceAdapter>, f32)], prompt: &[TokenId]) -> Self {
        let adapters: Vec<_> = adapters.iter().filter(|(_, weight)| *weight != 0.0).cloned().collect();
        let begins: Vec<_> = adapters.iter().map(|(adapter, _)| adapter.acts_from(prompt)).collect();
        let froms: BTreeSet<_> = begins.iter().flatten().copied().chain([0]).collect();
        let stage = |from: usize| {
            let acts = begins.iter().map(|begin| begin.is_some_and(|begin| begin <= from));
            let acting = adapters.iter().zip(acts).filter(|(_, acts)| *acts).map(|(adapter, _)| adapter.clone());
            Stage::new(from, acting.collect())
        };
        Self { stages: froms.into_iter().map(stage).collect() }
    }

    /// The stages that these positions touch, each with its own part of them.
    pub(crate) fn stages(&self, positions: Range<usize>) -> impl Iterator<Item = (Range<usize>, &Stage)> {
        let ends = self.stages.iter().skip(1).map(|stage| stage.from).chain([usize::MAX]);
        self.stages.iter().zip(ends).filter_map(move |(stage, end)| {
            let part = positions.start.max(stage.from)..positions.end.min(end);
            (part.start < part.end).then_some((part, stage))
        })
    }

    /// All adapters that act anywhere.
    #[must_use]
    pub(crate) fn all(&self) -> &[(Arc<DeviceAdapter>, f32)] {
        self.stages.last().map_or(&[], |stage| &stage.adapters)
    }

    /// Equal for sets that act alike in an answer; ordered so that equal ones can be made adjacent.
    #[must_use]
    pub(crate) fn key(&self) -> &[(Digest, u32)] {
        self.stages.last().map_or(&[], |stage| &stage.key)
    }
}

impl Stage {
    fn new(from: usize, adapters: Vec<(Arc<DeviceAdapter>, f32)>) -> Self {
        let key = adapters.iter().map(|(adapter, weight)| (adapter.digest, weight.to_bits())).collect();
        Self { from, key, adapters: adapters.into() }
    }

    /// Content and weights of its adapters.
    #[must_use]
    pub(crate) fn key(&self) -> &[(Digest, u32)] {
        &self.key
    }

    /// Whether `adapters` are the same with the same weights.
    #[must_use]
    pub(crate) fn acts_like(&self, adapters: &[(Arc<DeviceAdapter>, f32)]) -> bool {
        self.key.iter().copied().eq(adapters.iter().map(|(adapter, weight)| (adapter.digest, weight.to_bits())))
    }
}

#[cfg(test)]
mod tests {
    use souk_runner::scripted;

    use super::*;

    #[test]
    fn an_adapter_without_weight_is_off() {
        let (on, off) = (scripted::adapter("on"), scripted::adapter("off"));
        let set = AdapterSet::new(&[(Arc::clone(&off), 0.0), (Arc::clone(&on), 0.5), (off, -0.0)], &[1, 2]);
        assert_eq!(set.key(), AdapterSet::new(&[(on, 0.5)], &[1, 2]).key());
        assert_eq!(set.all().len(), 1);
    }
}
